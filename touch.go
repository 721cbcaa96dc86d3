package session

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/coatcheck-go/session/driver"
)

// maxTouches bounds the touches that run at the same time. A later request of the session writes
// what is over the bound.
const maxTouches = 64

// touch writes to the store that the session was used, if that is due. It does not delay the
// response, and its failure does not fail the request.
func (m *Manager) touch(ctx context.Context, s *Session) {
	m.touchOne(ctx, s)
	for d := s.opened(); d != nil; d = d.owned.before {
		m.touchOne(ctx, d)
	}
}

func (m *Manager) touchOne(ctx context.Context, s *Session) {
	u, due := s.dueTouch()
	if !due {
		return
	}
	ctx = context.WithoutCancel(ctx)
	// An Observer that blocks does so here, in the request, and not while it holds a place.
	ctx, o := m.observers.observe(ctx, OperationTouch, u.id)
	select {
	case m.touches <- struct{}{}:
	default:
		o.outcome(OutcomeCanceled)
		o.end(nil)
		return
	}
	go func() {
		defer func() { <-m.touches }()
		defer m.recoverStore(ctx, u.id)
		ctx, cancel := context.WithTimeout(ctx, m.cfg.CommitTimeout)
		defer cancel()
		err := errStorePanicked
		if o != nil {
			defer func() {
				o.finish(err)
				m.observers.inBackground(o.report)
			}()
		}
		err = u.write(ctx, m.store)
		if err != nil && !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, driver.ErrMoved) {
			m.cfg.Logger.WarnContext(ctx, "session: a use was not written to the store; a later one will be",
				"session", u.id.String(), "error", err)
		}
	}()
}

// recoverStore is deferred where a panic of the store would end the process.
func (m *Manager) recoverStore(ctx context.Context, id driver.ID) {
	if why := recover(); why != nil {
		m.cfg.Logger.ErrorContext(ctx, "session: the store panicked",
			"session", id.String(), "panic", why, "stack", string(debug.Stack()))
	}
}

func (s *Session) dueTouch() (u use, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.use(), s.touchIsDue()
}

// use is a use of a session, to be written to the store.
type use struct {
	id       driver.ID
	verifier driver.Hash
	renewed  bool // the request renewed the token itself
}

// use returns the use of the session by this request. The caller holds Session.mu.
func (s *Session) use() use { return use{s.cred.id, s.cred.verifier, s.response.renewed} }

// write writes the use to the store. To the store, a touch shows that the client has the token. So
// a use by the request that renewed the token is written as a change without operations.
func (u use) write(ctx context.Context, store driver.Store) error {
	if !u.renewed {
		return store.Touch(ctx, u.id, u.verifier)
	}
	_, err := store.Apply(ctx, u.id, &driver.Change{Verifier: u.verifier, Issued: true})
	return err
}
