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
	ctx, o := s.m.observers.observe(ctx, OperationLoad, id)
	defer o.abandon()
	store, copies := s.m.store.(driver.FreshLoader)
	if copies && fresh {
		r, now, err := store.LoadFresh(ctx, id)
		o.end(err)
		return r, now, err
	}
	var r *driver.Record
	var now time.Time
	var err error
	if o == nil {
		r, now, err = s.m.store.Load(ctx, id)
	} else {
		r, now, err = o.load(ctx, s.m.store, id)
	}
	if copies && err == nil && r.Tokens.Status(verifier, now) == driver.Unknown {
		o.uncached()
		r, now, err = store.LoadFresh(ctx, id)
	}
	o.end(err)
	return r, now, err
}

// load is Load of the store. It also finds out whether a copy answered.
func (o *observation) load(ctx context.Context, s driver.Store, id driver.ID) (*driver.Record, time.Time, error) {
	store, ok := s.(driver.LoadReporter)
	if !ok {
		return s.Load(ctx, id)
	}
	r, now, cached, err := store.LoadAndReport(ctx, id)
	o.op.Cached = cached
	return r, now, err
}

// storeCreate stores a new session under the token t.
func (s *Session) storeCreate(ctx context.Context, id driver.ID, o *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	s.mu.Unlock()
	defer s.mu.Lock()
	ctx, watched := s.m.observers.observe(ctx, OperationCreate, id)
	defer watched.abandon()
	res, err := s.m.store.Create(ctx, id, o, c)
	watched.end(err)
	return res, err
}

func (s *Session) storeApply(ctx context.Context, c *driver.Change) (*driver.Result, error) {
	id := s.cred.id
	s.mu.Unlock()
	defer s.mu.Lock()
	ctx, o := s.m.observers.observe(ctx, OperationCommit, id)
	defer o.abandon()
	res, err := s.m.store.Apply(ctx, id, c)
	o.end(err)
	return res, err
}

func (s *Session) storeSignIn(ctx context.Context, store driver.UserStore, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	s.mu.Unlock()
	defer s.mu.Lock()
	ctx, o := s.m.observers.observe(ctx, OperationSignIn, id)
	defer o.abandon()
	res, err := store.SignIn(ctx, id, in)
	o.end(err)
	return res, err
}

func (s *Session) storeTouch(ctx context.Context) error {
	u := s.use()
	s.mu.Unlock()
	defer s.mu.Lock()
	ctx, o := s.m.observers.observe(ctx, OperationTouch, u.id)
	defer o.abandon()
	err := u.write(ctx, s.m.store)
	o.end(err)
	return err
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
	ctx, o := s.m.observers.observe(ctx, OperationEnd, id)
	defer o.abandon()
	if store, ok := s.m.store.(driver.EndReporter); ok {
		ended, err = store.EndAndReport(ctx, id, owner, driver.Attempt(ticket.NewSecret()))
	} else {
		ended, err = known, s.m.store.End(ctx, id)
	}
	o.end(err)
	return ended, err
}

// storeJoin moves fields from the session from to the data s. The caller holds the locks of both.
func (s *Session) storeJoin(ctx context.Context, from *Session, take, put *driver.Change) (taken, stored *driver.Result, err error) {
	store := s.m.store.(driver.Joiner)
	fromID, id := from.cred.id, s.cred.id
	from.mu.Unlock()
	s.mu.Unlock()
	defer from.mu.Lock()
	defer s.mu.Lock() // first: see userData
	ctx, o := s.m.observers.observe(ctx, OperationJoin, fromID)
	defer o.abandon()
	taken, stored, err = store.Join(ctx, fromID, take, id, put)
	o.end(err)
	return taken, stored, err
}
