package session

import (
	"context"
	"log/slog"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Event is something that happened to a session, for audit logs and the like. It holds no token and no secret. As a value of slog it is a
// group of what is set.
//
// Only what is known to have happened is an event: a change whose outcome nobody knows ([ErrUnknownOutcome]) is none.
type Event struct {
	Kind   EventKind
	Handle string    // of the session, as in Info; "" for Revoked is everybody's, for Refused a token that names none
	User   string    // who is, or was, signed in; "": nobody, or not known
	Before string    // SignedIn: handle of the session that the visitor had, whosever, and that this one took the place of; "": none
	Reason string    // Refused: "malformed", "forged", or "unknown": there is no such session, often since it has ended
	Time   time.Time // the store's, where it tells

	anonymous bool // nobody was signed in, and that is known
}

// EventKind says what happened.
type EventKind string

// The kinds of events. Each happening is one event, on the node that made it.
const (
	EventCreated   EventKind = "created"    // an anonymous session was stored
	EventSignedIn  EventKind = "signed in"  // a session of User was stored
	EventRenewed   EventKind = "renewed"    // Session.Renew changed the token
	EventRotated   EventKind = "rotated"    // the token was changed because of its age
	EventSignedOut EventKind = "signed out" // Session.SignOut ended it
	EventRevoked   EventKind = "revoked"    // Manager.Revoke, RevokeUser or RevokeAll ended it
	EventEvicted   EventKind = "evicted"    // it ended for Config.MaxPerUser
	EventExpired   EventKind = "expired"    // somebody was signed in, and it ended by itself
	EventStolen    EventKind = "stolen"     // a token was used that had been changed for another long before; the session has ended
	EventRefused   EventKind = "refused"    // a token opened no session; of texts that are no tokens at most one a request is told
)

// LogValue implements slog.LogValuer.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("kind", string(e.Kind))}
	for _, a := range []slog.Attr{
		slog.String("session", e.Handle), slog.String("user", e.User), slog.String("before", e.Before), slog.String("reason", e.Reason),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	return slog.GroupValue(append(attrs, slog.Time("time", e.Time))...)
}

// happened keeps an event until the lock is released, which the caller holds.
func (s *Session) happened(e Event) {
	if s.m.heard {
		s.events = append(s.events, e)
	}
}

// own is an event of the session itself. The caller holds the lock.
func (s *Session) own(kind EventKind, id driver.ID, at time.Time) (e Event) {
	if !s.m.heard {
		return e // which nobody sees
	}
	e = Event{Kind: kind, Handle: id.String(), Time: at, anonymous: s.whose == nil && s.state != degraded}
	if s.whose != nil {
		if p, err := s.m.keys.Sealer(s.whoseID).OpenPrincipal(s.whose); err == nil {
			e.User = p.User
		}
	}
	return e
}

// signedIn are the events of a sign-in, in place of a session that the visitor may have had. The caller holds the lock.
func (s *Session) signedIn(res *driver.Result, before *driver.Credential) {
	e := s.own(EventSignedIn, s.id, res.Now)
	if before != nil && e.Kind != "" {
		e.Before = before.ID.String()
	}
	s.happened(e)
	for _, id := range res.Evicted {
		s.happened(s.own(EventEvicted, id, res.Now))
	}
}

// revoked are the events of sessions that were ended from outside.
func (m *Manager) revoked(ctx context.Context, user string, ended []driver.ID) {
	if !m.heard {
		return
	}
	now, events := m.now(), make([]Event, len(ended))
	for i, id := range ended {
		events[i] = Event{Kind: EventRevoked, Handle: id.String(), User: user, Time: now}
	}
	m.happenedAll(ctx, events)
}

// unlock releases the lock and tells what has happened under it, so that who is told may use the session.
func (s *Session) unlock(ctx context.Context) {
	events := s.events
	s.events = nil
	s.mu.Unlock()
	if len(events) > 0 {
		s.m.happenedAll(ctx, events)
	}
}

// tell tells what has happened: for those who hold something else than the lock while it happens.
func (s *Session) tell(ctx context.Context) {
	s.mu.Lock()
	s.unlock(ctx)
}

// happenedAll tells of each event, also if OnEvent panics.
func (m *Manager) happenedAll(ctx context.Context, events []Event) {
	next := 0
	defer func() {
		if next < len(events) {
			m.happenedAll(ctx, events[next:])
		}
	}()
	for next < len(events) {
		next++
		m.happened(ctx, events[next-1])
	}
}

// happened tells this node, and then the others.
func (m *Manager) happened(ctx context.Context, e Event) {
	defer m.publish(e) // also if OnEvent panics
	if m.cfg.OnEvent != nil {
		m.cfg.OnEvent(ctx, e)
	}
}

// refusedToken is the event of a token that opens no session. The caller holds the lock.
func (s *Session) refusedToken(reason, handle string) {
	s.happened(Event{Kind: EventRefused, Handle: handle, Reason: reason, Time: s.m.now()})
}

// now is the store's time, where it tells.
func (m *Manager) now() time.Time {
	if store, ok := m.store.(driver.Clock); ok {
		return store.Now()
	}
	return time.Now()
}
