package storetest_test

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// ownStore is a store as a third party writes one, on any database whose transactions can read and replace one record. What
// a change means is package driver's; the store loads, calls and saves.
type ownStore struct{ db *database }

var _ driver.Store = ownStore{}

func (s ownStore) Load(ctx context.Context, id driver.ID) (r *driver.Record, now time.Time, err error) {
	err = s.db.update(ctx, id, func(old *driver.Record, at time.Time) (*driver.Record, error) {
		if now = at; !found(old, now) {
			return nil, driver.ErrNotFound
		}
		r = old
		return old, nil
	})
	return r, now, err
}

func (s ownStore) Create(ctx context.Context, id driver.ID, o *driver.RecordSpec, c *driver.Change) (res *driver.Result, err error) {
	err = s.db.update(ctx, id, func(old *driver.Record, now time.Time) (*driver.Record, error) {
		if found(old, now) {
			if old.Secret != o.Secret {
				return old, driver.ErrExists
			}
			res = &driver.Result{Record: old, Now: now} // the first one repeated
			return old, nil
		}
		if res, err = driver.NewRecord(now, o, c); err != nil {
			return nil, err
		}
		return res.Record, nil
	})
	return res, err
}

func (s ownStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (res *driver.Result, err error) {
	err = s.db.update(ctx, id, func(old *driver.Record, now time.Time) (*driver.Record, error) {
		if !found(old, now) {
			return nil, driver.ErrNotFound
		}
		if res, err = old.Apply(now, c); err != nil {
			return nil, err
		}
		return res.Record, nil
	})
	return res, err
}

func (s ownStore) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	return s.db.update(ctx, id, func(old *driver.Record, now time.Time) (*driver.Record, error) {
		if !found(old, now) {
			return nil, driver.ErrNotFound
		}
		return old.Touch(now, verifier)
	})
}

func (s ownStore) End(ctx context.Context, id driver.ID) error {
	return s.db.update(ctx, id, func(*driver.Record, time.Time) (*driver.Record, error) { return nil, nil })
}

func found(r *driver.Record, now time.Time) bool { return r != nil && r.Live(now) }

// database stands for what the third party has: here a map behind a mutex, which keeps records in the form of the format.
type database struct {
	now  func() time.Time
	mu   sync.Mutex
	rows map[driver.ID][]driver.Field
}

func newDatabase(now func() time.Time) *database {
	return &database{now: now, rows: map[driver.ID][]driver.Field{}}
}

// update replaces the record of id by what f makes of it, nil for none, unless f returns an error.
func (db *database) update(ctx context.Context, id driver.ID, f func(*driver.Record, time.Time) (*driver.Record, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	var old *driver.Record
	if row := db.rows[id]; row != nil {
		var err error
		if old, err = driver.Decode(row); err != nil {
			return err
		}
	}
	r, err := f(old, db.now())
	switch {
	case err != nil:
	case r == nil:
		delete(db.rows, id)
	case r != old:
		db.rows[id] = driver.Encode(r)
	}
	return err
}

// vacuum removes what has expired, as databases do in their own time.
func (db *database) vacuum() {
	db.mu.Lock()
	defer db.mu.Unlock()
	now := db.now()
	maps.DeleteFunc(db.rows, func(_ driver.ID, row []driver.Field) bool {
		r, err := driver.Decode(row)
		return err == nil && !r.Live(now)
	})
}

func (db *database) len() int {
	db.mu.Lock()
	defer db.mu.Unlock()
	return len(db.rows)
}
