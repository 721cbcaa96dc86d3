package storetest_test

import (
	"context"
	"errors"
	"time"

	"github.com/coatcheck-go/session/driver"
)

func (b *brokenUsers) Create(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	if b.create != nil {
		return b.create(ctx, id, spec, c)
	}
	return b.Store.Create(ctx, id, spec, c)
}

func (b *brokenUsers) Join(
	ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
) (taken, stored *driver.Result, err error) {
	if b.join != nil {
		return b.join(ctx, from, take, into, put)
	}
	return b.Store.Join(ctx, from, take, into, put)
}

// afterCreateOfData calls f after each Create of user data.
func (b *brokenUsers) afterCreateOfData(f func(id driver.ID)) {
	b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
		res, err := b.Store.Create(ctx, id, spec, c)
		if err == nil && id.UserData {
			f(id)
		}
		return res, err
	}
}

// overwrite returns a change that sets and unsets what c compares and swaps.
func overwrite(c *driver.Change) *driver.Change {
	blind := *c
	blind.Ops = nil
	for _, op := range c.Ops {
		if op.Kind = driver.Set; op.Value == nil {
			op.Kind = driver.Unset
		}
		blind.Ops = append(blind.Ops, op)
	}
	return &blind
}

// userDataDefects concern the data of users.
var userDataDefects = []userDefect{
	{"user data has the key of a session", []string{"userdata/own-record"}, func(b *brokenUsers) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			id.UserData = false
			return b.Store.Create(ctx, id, spec, c)
		}
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			id.UserData = false
			return b.Store.Load(ctx, id)
		}
	}},
	{"EndAll ends user data", []string{"userdata/revocations"}, func(b *brokenUsers) {
		var data []driver.ID
		b.afterCreateOfData(func(id driver.ID) { data = append(data, id) })
		b.endAll = func(ctx context.Context) error {
			for _, id := range data {
				_ = b.Store.End(ctx, id)
			}
			return b.Store.EndAll(ctx)
		}
	}},
	{"user data is counted as a session", []string{"userdata/no-session"}, func(b *brokenUsers) {
		b.sessions = func(ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int) ([]driver.UserSession, error) {
			list, err := b.Store.Sessions(ctx, owner, after, limit)
			if r, _, loadErr := b.Store.Load(ctx, driver.UserDataID(owner)); loadErr == nil {
				r = r.Metadata()
				r.Principal = &driver.Principal{User: "ada", Owner: owner}
				list = append(list, driver.UserSession{ID: driver.UserDataID(owner), Record: r})
			}
			return list, err
		}
	}},
	{"user data does not expire", []string{"userdata/expiry"}, func(b *brokenUsers) {
		kept := newCopies()
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			r, now, err := b.Store.Load(ctx, id)
			if id.UserData && err == nil {
				kept.put(id, r)
			} else if old := kept.get(id); old != nil {
				return old, now, nil
			}
			return r, now, err
		}
	}},
	{"user data is lost at a restart", []string{"userdata/reopen"}, func(b *brokenUsers) {
		var data []driver.ID
		b.afterCreateOfData(func(id driver.ID) { data = append(data, id) })
		b.onReopen = func() {
			for _, id := range data {
				_ = b.Store.End(context.Background(), id)
			}
		}
	}},
	{"a copy of user data is never updated", []string{"userdata/elsewhere"}, func(b *brokenUsers) {
		kept := newCopies()
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			r, now, err := b.Store.Load(ctx, id)
			if old := kept.get(id); old != nil && id.UserData {
				return old, now, err
			}
			if err == nil {
				kept.put(id, r)
			}
			return r, now, err
		}
	}},
	{"user data wakes nobody", []string{"userdata/watch"}, func(b *brokenUsers) {
		b.watch = func(id driver.ID, wake func(bool)) func() {
			if id.UserData {
				return func() {}
			}
			return b.Store.Watch(id, wake)
		}
	}},
	{"a join takes and does not put", []string{"join/moves"}, func(b *brokenUsers) {
		b.join = func(ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
		) (taken, stored *driver.Result, err error) {
			nothing := *put
			nothing.Ops = nil
			return b.Store.Join(ctx, from, take, into, &nothing)
		}
	}},
	{"a join is two changes", []string{"join/all-or-nothing"}, func(b *brokenUsers) {
		b.join = func(ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
		) (taken, stored *driver.Result, err error) {
			if taken, err = b.Store.Apply(ctx, from, take); err != nil {
				return nil, nil, err
			}
			if stored, err = b.Store.Apply(ctx, into, put); err != nil {
				return nil, nil, err
			}
			return taken, stored, nil
		}
	}},
	{"a join without user data is a session that ended", []string{"join/no-data"}, func(b *brokenUsers) {
		b.join = func(ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
		) (taken, stored *driver.Result, err error) {
			if taken, stored, err = b.Store.Join(ctx, from, take, into, put); errors.Is(err, driver.ErrNoUserData) {
				err = driver.ErrNotFound
			}
			return taken, stored, err
		}
	}},
	{"a join needs no session", []string{"join/ended"}, func(b *brokenUsers) {
		b.join = func(ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
		) (taken, stored *driver.Result, err error) {
			if taken, stored, err = b.Store.Join(ctx, from, take, into, put); errors.Is(err, driver.ErrNotFound) {
				_, _ = b.Store.Apply(ctx, into, put)
			}
			return taken, stored, err
		}
	}},
	{"a join does not compare", []string{"join/repeated", "join/concurrent"}, func(b *brokenUsers) {
		b.join = func(ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
		) (taken, stored *driver.Result, err error) {
			time.Sleep(time.Millisecond)
			if taken, err = b.Store.Apply(ctx, from, overwrite(take)); err != nil {
				return nil, nil, err
			}
			if stored, err = b.Store.Apply(ctx, into, overwrite(put)); err != nil {
				return nil, nil, err
			}
			return taken, stored, nil
		}
	}},
}
