package session

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Events yields the events of all nodes that share the store, from the moment it is called. It
// yields the events of users' sessions. [EventRefused] and the events of anonymous sessions are
// left out, because any visitor can cause as many of them as they like. All nodes see the same
// order.
//
// Delivery is best effort. Where events are missing, or no key of Config.Keys opens them, Events
// yields [ErrGap] and goes on with later events. An event may come twice after a gap. Events that a
// node had not yet published when it crashed are lost without ErrGap.
//
// While the store is down, Events waits. It ends when ctx is done. If it cannot go on, it yields an
// error and ends: [ErrUnavailable], or errors.ErrUnsupported if the store has no feed.
//
// With Config.Keys, nodes seal the events that they send. Without keys the store sees them in plain
// text. See docs/events.md.
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

// publish sends an event to all nodes. It leaves out events that any visitor can cause in any
// number.
func (m *Manager) publish(e Event) {
	if m.feed == nil || e.Kind == EventRefused || e.anonymous {
		return
	}
	m.feed.Publish(m.sealEvent(e))
}

// eventJSON is an event as nodes send it. The names are part of the format.
type eventJSON struct {
	Kind    EventKind `json:"kind"`
	Session string    `json:"session,omitempty"`
	User    string    `json:"user,omitempty"` // base64url, because an id may be any bytes
	Before  string    `json:"before,omitempty"`
	Time    int64     `json:"time"` // milliseconds
}

var eventUser = base64.RawURLEncoding.Strict()

// sealEvent returns an event as nodes send it: JSON, sealed if there are keys.
func (m *Manager) sealEvent(e Event) []byte {
	b, err := json.Marshal(eventJSON{e.Kind, e.Handle, eventUser.EncodeToString([]byte(e.User)), e.Before, e.Time.UnixMilli()})
	if err != nil {
		return b // not reached: these types always encode
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
		return Event{}, fmt.Errorf("%w: an event in an unknown format", ErrGap)
	}
	user, err := eventUser.DecodeString(e.User)
	if err != nil {
		return Event{}, fmt.Errorf("%w: an event with a malformed user", ErrGap)
	}
	return Event{
		Kind: e.Kind, Handle: e.Session, User: string(user), Before: e.Before, Time: time.UnixMilli(e.Time),
	}, nil
}
