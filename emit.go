package session

import (
	"context"
	"runtime/debug"
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// listen finds out who gets events. If anybody does, it has the store report sessions that expire.
func (m *Manager) listen() {
	if feed, ok := m.store.(driver.Feed); ok && feed.Publishing() {
		m.feed = feed
	}
	m.local = m.cfg.OnEvent != nil || m.observers != nil
	m.listening = m.local || m.feed != nil
	store, ok := m.store.(driver.ExpiryReporter)
	if !ok || !m.listening {
		return
	}
	m.userIDs = newUserCache(cachedUsersOfFeeds)
	store.OnExpiry(func(x driver.ExpiredSession) {
		e := Event{Kind: EventExpired, Handle: x.ID.String(), Time: x.At, User: m.userIDs.user(x.Owner)}
		if x.Record != nil {
			if p, err := m.keys.Sealer(x.Record.Secret).OpenPrincipal(x.Record.Principal); err == nil && p != nil {
				e.User = p.User
			}
		}
		m.emitRecovering(e)
		m.observers.inBackground(func() { m.observers.events(context.Background(), []Event{e}) })
	})
}

// emitRecovering emits from a goroutine of the store's, where a panic of OnEvent would end the
// process.
func (m *Manager) emitRecovering(e Event) {
	defer func() {
		if why := recover(); why != nil {
			m.cfg.Logger.Error("session: OnEvent panicked", "event", e, "panic", why, "stack", string(debug.Stack()))
		}
	}()
	m.emit(context.Background(), e)
}

// emit emits to this node's listener, and then to other nodes.
func (m *Manager) emit(ctx context.Context, e Event) {
	defer m.publish(e) // also if OnEvent panics
	if m.cfg.OnEvent != nil {
		m.cfg.OnEvent(ctx, e)
	}
}

// emitAll emits each event, also if OnEvent panics, and then tells the Observers, which may block.
func (m *Manager) emitAll(ctx context.Context, events []Event) {
	defer m.observers.events(ctx, events)
	m.emitEach(ctx, events)
}

func (m *Manager) emitEach(ctx context.Context, events []Event) {
	next := 0
	defer func() {
		if next < len(events) {
			m.emitEach(ctx, events[next:])
		}
	}()
	for next < len(events) {
		next++
		m.emit(ctx, events[next-1])
	}
}

// emitRevoked emits the events of a user's sessions that a Manager ended.
func (m *Manager) emitRevoked(ctx context.Context, user string, ended []driver.ID) {
	if !m.listening {
		return
	}
	now, events := m.now(), make([]Event, len(ended))
	user = strings.Clone(user) // listeners may keep an event
	for i, id := range ended {
		events[i] = Event{Kind: EventRevoked, Handle: id.String(), User: user, Time: now}
	}
	m.emitAll(ctx, events)
}

// now returns the store's time, if the store tells it.
func (m *Manager) now() time.Time {
	if store, ok := m.store.(driver.Clock); ok {
		return store.Now()
	}
	return time.Now()
}

// emit keeps an event until unlock emits it. The caller holds the lock, as for all functions below
// but emitNow.
func (s *Session) emit(e Event) {
	if s.m.listening {
		s.events = append(s.events, e)
	}
}

// emitNow emits the events that are kept.
func (s *Session) emitNow(ctx context.Context) {
	s.lock()
	s.unlock(ctx)
}

// event returns an event of the session itself. Without listeners it is empty.
func (s *Session) event(kind EventKind, id driver.ID, at time.Time) (e Event) {
	if !s.m.listening {
		return e
	}
	e = Event{Kind: kind, Handle: id.String(), Time: at}
	named := s.identity.named
	if named == nil || named.Principal == nil {
		e.anonymous = s.state != degraded
		return e
	}
	if p, err := s.m.keys.Sealer(named.Secret).OpenPrincipal(named.Principal); err == nil {
		e.User = p.User
	}
	return e
}

// emitSignedIn emits the events of a sign-in. from is the session that the visitor had, if any.
func (s *Session) emitSignedIn(res *driver.Result, from *driver.Credential) {
	if !s.m.listening {
		return
	}
	e := s.event(EventSignedIn, s.cred.id, res.Now)
	if from != nil {
		e.Before = from.ID.String()
	}
	s.emit(e)
	for _, id := range res.Evicted {
		s.emit(s.event(EventEvicted, id, res.Now))
	}
}

// emitRefused emits the event of a token that opens no session.
func (s *Session) emitRefused(reason, handle string) {
	if s.m.listening {
		s.emit(Event{Kind: EventRefused, Handle: handle, Reason: reason, Time: s.m.now()})
	}
}
