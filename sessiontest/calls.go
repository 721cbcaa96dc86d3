package sessiontest

import (
	"context"
	"errors"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// This file has the calls of a faulty store.

func (f *faulty) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	return f.load(ctx, id, f.store.Load)
}

// LoadFresh implements driver.FreshLoader. It is Load if the store keeps no copies.
func (f *faulty) LoadFresh(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	return f.load(ctx, id, f.fresh())
}

// loader is the type of Load and LoadFresh.
type loader func(context.Context, driver.ID) (*driver.Record, time.Time, error)

func (f *faulty) fresh() loader {
	if store, ok := f.store.(driver.FreshLoader); ok {
		return store.LoadFresh
	}
	return f.store.Load
}

func (f *faulty) load(ctx context.Context, id driver.ID, load loader) (r *driver.Record, now time.Time, err error) {
	err = f.faults.run(ctx, OpLoad, func() (err error) {
		r, now, err = load(ctx, id)
		return err
	})
	f.keep(id, r, err)
	switch {
	case err == nil:
		return r, now, nil
	case now.IsZero():
		now = f.Now()
	}
	return nil, now, err
}

// LoadStale implements driver.StaleLoader.
func (f *faulty) LoadStale(id driver.ID) (*driver.Record, time.Time, bool) {
	if store, ok := f.store.(driver.StaleLoader); ok {
		return store.LoadStale(id)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r, now := f.copies[id], f.Now()
	if r == nil || !r.Live(now) {
		return nil, now, false
	}
	return r, now, true
}

// Now implements driver.Clock. Without a clock of the store it is this process's.
func (f *faulty) Now() time.Time {
	if store, ok := f.store.(driver.Clock); ok {
		return store.Now()
	}
	return time.Now()
}

// Watch implements driver.Watcher. It returns nil if the store is none.
func (f *faulty) Watch(id driver.ID, wake func(missed bool)) (stop func()) {
	if store, ok := f.store.(driver.Watcher); ok {
		return store.Watch(id, wake)
	}
	return nil
}

// OnExpiry implements driver.ExpiryReporter. A store that reports nothing never calls report.
func (f *faulty) OnExpiry(report func(driver.ExpiredSession)) {
	if store, ok := f.store.(driver.ExpiryReporter); ok {
		store.OnExpiry(report)
	}
}

// change makes a call that changes the record at id.
func (f *faulty) change(ctx context.Context, op Op, id driver.ID, call func() (*driver.Result, error)) (*driver.Result, error) {
	var res *driver.Result
	err := f.faults.run(ctx, op, func() (err error) {
		res, err = call()
		return err
	})
	if err != nil {
		f.keep(id, nil, err)
		return nil, err
	}
	f.keep(id, res.Record, nil)
	return res, nil
}

func (f *faulty) Create(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	return f.change(ctx, OpCreate, id, func() (*driver.Result, error) { return f.store.Create(ctx, id, spec, c) })
}

func (f *faulty) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	apply := func() (*driver.Result, error) { return f.store.Apply(ctx, id, c) }
	res, err := f.change(ctx, OpApply, id, apply)
	if !errors.Is(err, errConflict) {
		return res, err
	}
	last := len(c.Ops) - 1
	if last < 0 || c.Ops[last].Kind != driver.Swap {
		return apply()
	}
	r, _, err := f.fresh()(ctx, id)
	if err != nil {
		return nil, err
	}
	present, _ := r.Fields.Get(c.Ops[last].Key)
	return nil, &driver.OpError{Index: last, Key: c.Ops[last].Key, Err: driver.ErrConflict, Present: present}
}

func (f *faulty) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	return f.faults.run(ctx, OpTouch, func() error { return f.store.Touch(ctx, id, verifier) })
}

func (f *faulty) End(ctx context.Context, id driver.ID) error {
	return f.end(ctx, id, func() error { return f.store.End(ctx, id) })
}

// end makes a call that ends a session. No copy of it is served any more.
func (f *faulty) end(ctx context.Context, id driver.ID, call func() error) error {
	f.keep(id, nil, driver.ErrNotFound)
	return f.faults.run(ctx, OpEnd, call)
}

// faultyEnds is the driver.EndReporter of a faulty store.
type faultyEnds struct {
	f     *faulty
	store driver.EndReporter
}

// EndAndReport implements driver.EndReporter.
func (e faultyEnds) EndAndReport(
	ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt,
) (ended bool, err error) {
	var own error
	err = e.f.end(ctx, id, func() error {
		ended, own = e.store.EndAndReport(ctx, id, owner, attempt)
		return own
	})
	return ended && (err == nil || own != nil), err // a lost reply reports nothing
}

// faultyUsers has what makes a faulty store a driver.UserStore.
type faultyUsers struct {
	f     *faulty
	store driver.UserStore
}

// SignIn implements driver.UserStore.
func (u faultyUsers) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	res, err := u.f.change(ctx, OpSignIn, id, func() (*driver.Result, error) { return u.store.SignIn(ctx, id, in) })
	if err != nil {
		return nil, err
	}
	if in.From != nil {
		u.f.keep(in.From.ID, nil, driver.ErrMoved)
	}
	for _, id := range res.Evicted {
		u.f.keep(id, nil, driver.ErrNotFound)
	}
	return res, nil
}

// Sessions implements driver.UserStore.
func (u faultyUsers) Sessions(
	ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
) (page []driver.UserSession, err error) {
	err = u.f.faults.run(ctx, OpSessions, func() (err error) {
		page, err = u.store.Sessions(ctx, owner, after, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

// EndUser implements driver.UserStore.
func (u faultyUsers) EndUser(ctx context.Context, owner driver.Hash, sel driver.Selection) (ended []driver.ID, err error) {
	err = u.f.faults.run(ctx, OpEndUser, func() (err error) {
		ended, err = u.store.EndUser(ctx, owner, sel)
		return err
	})
	for _, id := range ended {
		u.f.keep(id, nil, driver.ErrNotFound)
	}
	return ended, err
}

// EndAll implements driver.UserStore.
func (u faultyUsers) EndAll(ctx context.Context) error {
	u.f.mu.Lock()
	clear(u.f.copies)
	u.f.mu.Unlock()
	return u.f.faults.run(ctx, OpEndAll, func() error { return u.store.EndAll(ctx) })
}

// faultyJoins has what makes a faulty store a driver.Joiner.
type faultyJoins struct {
	faultyUsers
	store driver.Joiner
}

// Join implements driver.Joiner.
func (j faultyJoins) Join(
	ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
) (taken, stored *driver.Result, err error) {
	err = j.f.faults.run(ctx, OpJoin, func() (err error) {
		taken, stored, err = j.store.Join(ctx, from, take, into, put)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	j.f.keep(from, taken.Record, nil)
	j.f.keep(into, stored.Record, nil)
	return taken, stored, nil
}
