package session

import (
	"context"
	"runtime/debug"

	"github.com/coatcheck-go/session/driver"
)

// listen finds out who is to be told of events, and has the store tell of sessions that expire if anybody is.
func (m *Manager) listen() {
	if feed, ok := m.store.(driver.Feed); ok && feed.Publishing() {
		m.feed = feed
	}
	m.heard = m.cfg.OnEvent != nil || m.feed != nil
	store, ok := m.store.(driver.ExpiryReporter)
	if !ok || !m.heard {
		return
	}
	m.names = &names{}
	store.OnExpiry(func(x driver.Expired) {
		e := Event{Kind: EventExpired, Handle: x.ID.String(), Time: x.At, User: m.names.of(x.Owner)}
		if x.Record != nil {
			if p, err := m.keys.Sealer(x.Record.Secret).OpenPrincipal(x.Record.Principal); err == nil && p != nil {
				e.User = p.User
			}
		}
		m.happenedAside(e)
	})
}

// happenedAside tells from a goroutine of the store's. There is no server that a panic of OnEvent would end a request of: it would end the process.
func (m *Manager) happenedAside(e Event) {
	defer func() {
		if why := recover(); why != nil {
			m.cfg.Logger.Error("session: OnEvent panicked", "event", e, "panic", why, "stack", string(debug.Stack()))
		}
	}()
	m.happened(context.Background(), e)
}

// noteUser remembers whose session was read, if anybody will ask. The caller holds the lock.
func (s *Session) noteUser(p *driver.Principal) {
	if s.m.names == nil {
		return
	}
	owner := p.Owner
	if p.Sealed != "" {
		p = s.who
	}
	if p != nil && p.User != "" {
		s.m.names.note(owner, p.User)
	}
}
