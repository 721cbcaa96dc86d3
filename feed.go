package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Events follows what happens on all nodes that share the store, from the moment it is called: what concerns users, that is all kinds but
// [EventRefused] and those of anonymous sessions, with which visitors could flood it. The order is one for all nodes. It is best effort, and says so
// where it fails: [ErrGap] stands where events are missing, or cannot be read for want of the right one of Config.Keys, and what happens
// after it follows; an event may then come twice. Only what a node had not passed on when it died is not missed. It waits while the store is
// away. It ends when ctx is done, and with an error when it cannot go on; errors.ErrUnsupported if the store has no feed.
//
// With Config.Keys events are sealed on their way; without, the store sees them.
func (m *Manager) Events(ctx context.Context) iter.Seq2[Event, error] {
	fail := func(err error) iter.Seq2[Event, error] {
		return func(yield func(Event, error) bool) { yield(Event{}, err) }
	}
	feed, ok := m.store.(driver.Feed)
	if !ok {
		return fail(fmt.Errorf("session: the store has no feed of events: %w", errors.ErrUnsupported))
	}
	events, err := feed.Follow(ctx)
	if err != nil {
		return fail(fmt.Errorf("%w: %v", ErrUnavailable, err))
	}
	return func(yield func(Event, error) bool) {
		for b, err := range events {
			var e Event
			switch {
			case err == nil:
				e, err = m.openEvent(b)
			case errors.Is(err, driver.ErrGap):
				err = ErrGap
			default:
				err = fmt.Errorf("%w: %v", ErrUnavailable, err)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// publish tells other nodes of an event, if it is one for them. Of anonymous sessions strangers can make as many as they like.
func (m *Manager) publish(e Event) {
	if m.feed == nil || e.Kind == EventRefused || e.anonymous {
		return
	}
	m.feed.Publish(m.sealEvent(e))
}

// eventJSON is an event on its way. The names are part of the format.
type eventJSON struct {
	Kind    EventKind `json:"kind"`
	Session string    `json:"session,omitempty"`
	User    []byte    `json:"user,omitempty"` // ids are any bytes
	Before  string    `json:"before,omitempty"`
	Time    int64     `json:"time"` // milliseconds
}

// sealEvent returns an event as nodes send it: JSON, sealed if there are keys.
func (m *Manager) sealEvent(e Event) []byte {
	b, err := json.Marshal(eventJSON{e.Kind, e.Handle, []byte(e.User), e.Before, e.Time.UnixMilli()})
	if err != nil {
		return b // of these types it always encodes
	}
	return m.keys.SealEvent(b)
}

func (m *Manager) openEvent(b []byte) (Event, error) {
	text, err := m.keys.OpenEvent(b)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %v", ErrGap, err)
	}
	return decodeEvent(text)
}

func decodeEvent(b []byte) (Event, error) {
	var e eventJSON
	if err := json.Unmarshal(b, &e); err != nil || e.Kind == "" {
		return Event{}, fmt.Errorf("%w: an event of another format", ErrGap)
	}
	return Event{Kind: e.Kind, Handle: e.Session, User: string(e.User), Before: e.Before, Time: time.UnixMilli(e.Time)}, nil
}
