package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Store is a driver.Joiner in a database. It is safe for concurrent use.
type Store struct {
	db        *sql.DB
	ownsDB    bool // Close closes it
	dialect   Dialect
	opt       Options
	q         statements
	txOptions *sql.TxOptions
	writer    chan struct{} // held by the writing transaction; nil: the database has many writers

	clock serverClock

	stop   context.CancelFunc
	work   sync.WaitGroup
	ended  chan struct{} // EndAll was called: there is much to clean
	expiry listeners
}

var (
	_ driver.Joiner         = (*Store)(nil)
	_ driver.Clock          = (*Store)(nil)
	_ driver.EndReporter    = (*Store)(nil)
	_ driver.ExpiryReporter = (*Store)(nil)
)

// state is what the store knows at one moment.
type state struct {
	now     time.Time
	epoch   int64
	revoked time.Time // when the sessions of all owners were last revoked; zero: never
}

// row is a session or a marker.
type row struct {
	id               string
	userData         bool
	found            bool
	epoch            int64
	moved, ended     time.Time // zero: no such marker
	attempt          driver.Attempt
	expires          time.Time
	metadata, fields []byte
}

// loadRow reads a row and the state. It was asked for at a time of this process.
func (s *Store) loadRow(in scanner, id driver.ID, asked time.Time) (row, state, error) {
	var st state
	var now, revoked int64
	var epoch, moved, ended, expires sql.NullInt64
	var attempt []byte
	out := row{id: id.String(), userData: id.UserData}
	err := scan(in, &st.epoch, &revoked, &now, &epoch, &moved, &ended, &attempt, &expires, &out.metadata, &out.fields)
	if err != nil {
		return row{}, state{}, err
	}
	st.now, st.revoked = s.timeOf(now, asked), fromMicros(revoked)
	out.found, out.epoch, out.expires = epoch.Valid, epoch.Int64, fromMicros(expires.Int64)
	out.moved, out.ended = fromMicros(moved.Int64), fromMicros(ended.Int64)
	copy(out.attempt[:], attempt)
	return out, st, nil
}

// live reports whether the row is a live session. It does not decode the record, so that a session
// whose record is damaged can be ended.
func (r *row) live(st *state) bool {
	return r.metadata != nil && r.current(st) && st.now.Before(r.expires)
}

// userDataEpoch is the epoch of user data, which EndAll does not end.
const userDataEpoch = math.MaxInt64

// current reports that no EndAll has ended the row.
func (r *row) current(st *state) bool { return r.epoch == st.epoch || r.epoch == userDataEpoch }

// over reports whether there was a session here until less than driver.SupersededFor ago. A late
// Create or SignIn must not bring it back.
func (r *row) over(st *state) bool {
	return st.now.Before(r.moved) || errors.Is(driver.EndedSince(st.now, r.ended), driver.ErrEnded)
}

// record returns the record of the row, also an expired one, or nil.
func (r *row) record(st *state) (*driver.Record, error) {
	if r.metadata == nil || !r.current(st) {
		return nil, nil
	}
	return decode(r.id, r.metadata, r.fields)
}

// liveRecord returns the live record, or the error of driver.LiveRecord.
func (r *row) liveRecord(st *state) (*driver.Record, error) {
	rec, err := r.record(st)
	if err != nil {
		return nil, err
	}
	ended := r.ended
	if st.revoked.After(ended) && !r.userData {
		ended = st.revoked
	}
	return driver.LiveRecord(st.now, rec, r.moved, ended)
}

// Load implements driver.Store. It is one query.
func (s *Store) Load(ctx context.Context, id driver.ID) (rec *driver.Record, now time.Time, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		asked := time.Now()
		r, st, err := s.loadRow(s.db.QueryRowContext(ctx, s.q.load, id.String()), id, asked)
		if err != nil {
			return err
		}
		now = st.now
		rec, err = r.liveRecord(&st)
		return err
	})
	return rec, now, err
}

// loadLocked reads a row and locks it until the transaction ends.
func (tx *transaction) loadLocked(id driver.ID) (row, state, error) {
	asked := time.Now()
	return tx.s.loadRow(tx.tx.QueryRowContext(tx.ctx, tx.s.q.loadLock, id.String()), id, asked)
}

// save stores a record where the transaction has read a row.
func (tx *transaction) save(id driver.ID, old bool, st *state, r *driver.Record) error {
	metadata, fields := encode(r)
	var owner any
	if r.Principal != nil {
		owner = r.Owner().String()
	}
	text := tx.s.q.update
	if !old {
		text = tx.s.q.insert
	}
	epoch := st.epoch
	if id.UserData {
		epoch = userDataEpoch
	}
	n, err := tx.execCount(text, id.String(), epoch, owner, micros(r.Created), micros(r.Expires()), metadata, fields)
	if err == nil && n == 0 {
		err = errConflict
	}
	return err
}

// Create implements driver.Store.
func (s *Store) Create(
	ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change,
) (res *driver.Result, err error) {
	err = s.transact(ctx, s.q.lockRow, true, func(tx *transaction) error {
		r, st, err := tx.loadLocked(id)
		if err != nil {
			return err
		}
		if r.over(&st) {
			return driver.ErrExists
		}
		existing, err := r.record(&st)
		if err != nil {
			return err
		}
		if res, err = driver.PlanCreate(st.now, existing, spec, c); err != nil || res.Record == existing {
			return err
		}
		return tx.save(id, r.found, &st, res.Record)
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// Apply implements driver.Store.
func (s *Store) Apply(ctx context.Context, id driver.ID, c *driver.Change) (res *driver.Result, err error) {
	renews := c.Renew != nil && c.Renew.Grace == 0 // the record shows whether it was done
	err = s.change(ctx, id, renews, func(r *driver.Record, now time.Time) (*driver.Record, error) {
		if res, err = r.Apply(now, c); err != nil {
			return nil, err
		}
		return res.Record, nil
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// Touch implements driver.Store. It is durable when it returns.
func (s *Store) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	return s.change(ctx, id, true, func(r *driver.Record, now time.Time) (*driver.Record, error) {
		return r.Touch(now, verifier)
	})
}

// change replaces a live record by the result of next, atomically.
func (s *Store) change(
	ctx context.Context, id driver.ID, repeatable bool, next func(*driver.Record, time.Time) (*driver.Record, error),
) error {
	return s.transact(ctx, s.q.lockRow, repeatable, func(tx *transaction) error {
		r, st, err := tx.loadLocked(id)
		if err != nil {
			return err
		}
		rec, err := r.liveRecord(&st)
		if err != nil {
			return err
		}
		after, err := next(rec, st.now)
		if err != nil || after == rec {
			return err
		}
		return tx.save(id, true, &st, after)
	})
}

// Join implements driver.Joiner.
func (s *Store) Join(
	ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
) (taken, stored *driver.Result, err error) {
	err = s.transact(ctx, s.q.lockRow, true, func(tx *transaction) error {
		session, _, err := tx.loadLocked(from)
		if err != nil {
			return err
		}
		data, st, err := tx.loadLocked(into) // the time is that after both locks
		if err != nil {
			return err
		}
		fromRecord, err := session.liveRecord(&st)
		if err != nil {
			return err
		}
		intoRecord, err := data.liveRecord(&st)
		if errors.Is(err, driver.ErrNotFound) {
			err = driver.ErrNoUserData
		}
		if err != nil {
			return err
		}
		if taken, stored, err = driver.PlanJoin(st.now, fromRecord, take, intoRecord, put); err != nil {
			return err
		}
		if err := tx.save(from, true, &st, taken.Record); err != nil {
			return err
		}
		return tx.save(into, true, &st, stored.Record)
	})
	if err != nil {
		return nil, nil, err
	}
	return taken, stored, nil
}

// End implements driver.Store.
func (s *Store) End(ctx context.Context, id driver.ID) error {
	_, err := s.EndAndReport(ctx, id, driver.Hash{}, driver.Attempt{})
	return err
}

// EndAndReport implements driver.EndReporter. It does not need the owner. It leaves an expired
// session in place, to be reported as expired.
func (s *Store) EndAndReport(
	ctx context.Context, id driver.ID, _ driver.Hash, attempt driver.Attempt,
) (ended bool, err error) {
	err = s.transact(ctx, s.q.lockRow, true, func(tx *transaction) error {
		r, st, err := tx.loadLocked(id)
		if err != nil {
			return err
		}
		switch {
		case r.live(&st):
			ended = true
			return tx.markEnded(st.now, attempt, r.id)
		case st.now.Before(r.moved):
			ended = false
			return driver.ErrMoved
		}
		repeated := attempt != driver.Attempt{} && r.attempt == attempt
		ended = repeated && errors.Is(driver.EndedSince(st.now, r.ended), driver.ErrEnded)
		return nil
	})
	return ended && err == nil, err
}

// Now implements driver.Clock: it estimates the time of the database's server.
func (s *Store) Now() time.Time { return s.clock.at(time.Now()) }

// timeOf returns the time that the database has told in an answer. SQLite tells none: it shares the
// clock of this machine.
func (s *Store) timeOf(now int64, asked time.Time) time.Time {
	if s.dialect == SQLite {
		return time.Now().Round(0).Truncate(time.Microsecond)
	}
	s.clock.set(now, asked)
	return time.UnixMicro(now)
}

func micros(t time.Time) int64 { return t.UnixMicro() }

// fromMicros returns the zero time for 0, which stands for NULL.
func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n)
}
