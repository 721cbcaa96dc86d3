package session

import (
	"context"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// This file has all calls of a Session to its store. Each releases Session.mu meanwhile, so that
// fields can be read and set while the store works. Session.calls keeps other store calls out. The
// caller holds both locks.

// load asks for a record. A copy in this process may be older than the token, so a copy that the
// verifier does not open is not an answer.
func (s *Session) load(ctx context.Context, id driver.ID, verifier driver.Hash) (*driver.Record, time.Time, error) {
	fresh := s.mode.fresh
	s.mu.Unlock()
	defer s.mu.Lock()
	store, copies := s.m.store.(driver.FreshLoader)
	if copies && fresh {
		return store.LoadFresh(ctx, id)
	}
	r, now, err := s.m.store.Load(ctx, id)
	if copies && err == nil && r.Tokens.Status(verifier, now) == driver.Unknown {
		return store.LoadFresh(ctx, id)
	}
	return r, now, err
}

// storeCreate stores a new session under the token t.
func (s *Session) storeCreate(ctx context.Context, id driver.ID, o *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	s.mu.Unlock()
	defer s.mu.Lock()
	return s.m.store.Create(ctx, id, o, c)
}

func (s *Session) storeApply(ctx context.Context, c *driver.Change) (*driver.Result, error) {
	id := s.cred.id
	s.mu.Unlock()
	defer s.mu.Lock()
	return s.m.store.Apply(ctx, id, c)
}

func (s *Session) storeSignIn(ctx context.Context, store driver.UserStore, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	s.mu.Unlock()
	defer s.mu.Lock()
	return store.SignIn(ctx, id, in)
}

func (s *Session) storeTouch(ctx context.Context) error {
	u := s.use()
	s.mu.Unlock()
	defer s.mu.Lock()
	return u.write(ctx, s.m.store)
}

// storeEnd ends a session, and reports whether it ended a live one. If the store does not report
// that, known is the answer.
func (s *Session) storeEnd(ctx context.Context, id driver.ID, known bool) (ended bool, err error) {
	var owner driver.Hash
	if r := s.identity.named; r != nil && r.Principal != nil {
		owner = r.Principal.Owner
	}
	s.mu.Unlock()
	defer s.mu.Lock()
	if store, ok := s.m.store.(driver.EndReporter); ok {
		return store.EndAndReport(ctx, id, owner, driver.Attempt(ticket.NewSecret()))
	}
	return known, s.m.store.End(ctx, id)
}
