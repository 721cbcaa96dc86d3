package storetest_test

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// exampleStore is a complete store, to copy as the start of your own. It stands for any database
// with transactions. Package driver makes all decisions: each method is one transaction that reads
// records, asks package driver, and writes what it returns.
//
// The records are pointers, because records are immutable. A database stores driver.Encode(record).
type exampleStore struct {
	now func() time.Time // the database's clock

	mu         sync.Mutex // makes a transaction atomic
	records    map[driver.ID]*driver.Record
	moved      map[driver.ID]time.Time   // sessions that a sign-in replaced: SignInPlan.MovedUntil
	ended      map[driver.ID]time.Time   // sessions that ended, with the time
	revoked    map[driver.Hash]time.Time // owners whose sessions were revoked, with the last time
	allRevoked time.Time                 // when the sessions of all owners were last revoked
}

var _ driver.UserStore = (*exampleStore)(nil)

func newExampleStore(now func() time.Time) *exampleStore {
	return &exampleStore{
		now: now, records: map[driver.ID]*driver.Record{},
		moved: map[driver.ID]time.Time{}, ended: map[driver.ID]time.Time{}, revoked: map[driver.Hash]time.Time{},
	}
}

// transaction runs f as one transaction. f writes after its last error, so there is nothing to
// undo.
func (s *exampleStore) transaction(ctx context.Context, f func(now time.Time) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return f(s.now())
}

// live returns the live record at id, or the error of driver.LiveRecord.
func (s *exampleStore) live(id driver.ID, now time.Time) (*driver.Record, error) {
	endedAt := s.ended[id]
	if s.allRevoked.After(endedAt) {
		endedAt = s.allRevoked
	}
	return driver.LiveRecord(now, s.records[id], s.moved[id], endedAt)
}

// over reports whether there was a session with this id until less than driver.SupersededFor ago. A
// late Create or SignIn must not bring it back.
func (s *exampleStore) over(id driver.ID, now time.Time) bool {
	return now.Before(s.moved[id]) || now.Sub(s.ended[id]) < driver.SupersededFor
}

// end removes a record, and leaves an ended marker if it was live.
func (s *exampleStore) end(id driver.ID, now time.Time) {
	if r := s.records[id]; r != nil && r.Live(now) {
		s.ended[id] = now
	}
	delete(s.records, id)
}

// owned returns all records of an owner. A database has an index for it.
func (s *exampleStore) owned(owner driver.Hash) (sessions []driver.UserSession) {
	for id, r := range s.records {
		if r.Owner() == owner {
			sessions = append(sessions, driver.UserSession{ID: id, Record: r})
		}
	}
	return sessions
}

func (s *exampleStore) Load(ctx context.Context, id driver.ID) (r *driver.Record, now time.Time, err error) {
	err = s.transaction(ctx, func(at time.Time) (err error) { now = at; r, err = s.live(id, at); return err })
	return r, now, err
}

func (s *exampleStore) Create(
	ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change,
) (res *driver.Result, err error) {
	err = s.transaction(ctx, func(now time.Time) (err error) {
		if s.over(id, now) {
			return driver.ErrExists
		}
		if res, err = driver.PlanCreate(now, s.records[id], spec, c); err != nil {
			return err
		}
		s.records[id] = res.Record
		return nil
	})
	return res, err
}

func (s *exampleStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (res *driver.Result, err error) {
	err = s.transaction(ctx, func(now time.Time) error {
		r, err := s.live(id, now)
		if err != nil {
			return err
		}
		if res, err = r.Apply(now, c); err != nil {
			return err
		}
		s.records[id] = res.Record
		return nil
	})
	return res, err
}

func (s *exampleStore) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	return s.transaction(ctx, func(now time.Time) error {
		r, err := s.live(id, now)
		if err != nil {
			return err
		}
		if r, err = r.Touch(now, verifier); err != nil {
			return err
		}
		s.records[id] = r
		return nil
	})
}

func (s *exampleStore) End(ctx context.Context, id driver.ID) error {
	return s.transaction(ctx, func(now time.Time) error {
		s.end(id, now)
		if now.Before(s.moved[id]) {
			return driver.ErrMoved // and keep the moved marker
		}
		return nil
	})
}

func (s *exampleStore) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	var plan driver.SignInPlan
	called := s.now() // before the transaction waits for its turn
	err := s.transaction(ctx, func(now time.Time) (err error) {
		if s.over(id, now) {
			return driver.ErrExists
		}
		owner := in.Spec.Principal.Owner
		state := driver.SignInState{
			Called: called, Now: now, Existing: s.records[id], Sessions: s.owned(owner), RevokedAt: s.revoked[owner],
		}
		if s.allRevoked.After(state.RevokedAt) {
			state.RevokedAt = s.allRevoked
		}
		if in.From != nil {
			state.From = s.records[in.From.ID]
		}
		if plan, err = driver.PlanSignIn(in, state); err != nil {
			return err
		}
		for _, evicted := range plan.Result.Evicted {
			s.end(evicted, now)
		}
		if !plan.MovedUntil.IsZero() {
			delete(s.records, in.From.ID)
			s.moved[in.From.ID] = plan.MovedUntil
		}
		s.records[id] = plan.Result.Record
		return nil
	})
	return plan.Result, err
}

func (s *exampleStore) Sessions(
	ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
) (page []driver.UserSession, err error) {
	list := func(now time.Time) error { page = driver.ListSessions(now, s.owned(owner), after, limit); return nil }
	err = s.transaction(ctx, list)
	return page, err
}

func (s *exampleStore) EndUser(ctx context.Context, owner driver.Hash, sel driver.Selection) (ended []driver.ID, err error) {
	err = s.transaction(ctx, func(now time.Time) error {
		for _, session := range driver.LiveSessions(now, s.owned(owner)) {
			if sel.Matches(session.ID) {
				s.end(session.ID, now)
				ended = append(ended, session.ID)
			}
		}
		if sel.Revokes() {
			s.revoked[owner] = now
		}
		return nil
	})
	return ended, err
}

func (s *exampleStore) EndAll(ctx context.Context) error {
	return s.transaction(ctx, func(now time.Time) error { clear(s.records); s.allRevoked = now; return nil })
}

// vacuum removes what has expired. A database does this from time to time.
func (s *exampleStore) vacuum() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	maps.DeleteFunc(s.records, func(_ driver.ID, r *driver.Record) bool { return !r.Live(now) })
	maps.DeleteFunc(s.ended, func(_ driver.ID, at time.Time) bool { return now.Sub(at) >= driver.SupersededFor })
	maps.DeleteFunc(s.moved, func(_ driver.ID, until time.Time) bool { return !now.Before(until) })
	maps.DeleteFunc(s.revoked, func(_ driver.Hash, at time.Time) bool { return now.Sub(at) > driver.MaxSignInTime })
}
