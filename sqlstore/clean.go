package sqlstore

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// listeners are the functions that OnExpiry has added.
type listeners struct {
	mu   sync.Mutex
	each []func(driver.ExpiredSession)
}

// OnExpiry implements driver.ExpiryReporter. The process that removes an expired session reports
// it: after one and a half times Options.CleanEvery at the latest. A process without listeners
// removes sessions, too, and then nobody gets the report.
func (s *Store) OnExpiry(f func(driver.ExpiredSession)) {
	s.expiry.mu.Lock()
	defer s.expiry.mu.Unlock()
	s.expiry.each = append(s.expiry.each, f)
}

// report calls the listeners.
func (l *listeners) report(expired []driver.ExpiredSession) {
	l.mu.Lock()
	each := l.each
	l.mu.Unlock()
	for _, e := range expired {
		for _, f := range each {
			f(e)
		}
	}
}

// runCleaning removes expired rows until ctx is done. Several processes may do so at the same time.
func (s *Store) runCleaning(ctx context.Context) {
	failed := false
	for {
		every := s.opt.CleanEvery
		select {
		case <-ctx.Done():
			return
		case <-s.ended:
		case <-time.After(every/2 + rand.N(every)): //nolint:gosec // jitter is no secret
		}
		err := s.clean(ctx)
		if err != nil && !failed && ctx.Err() == nil {
			s.opt.Logger.WarnContext(ctx, "sqlstore: could not remove expired sessions; will try again", "error", err)
		}
		failed = err != nil
	}
}

// clean removes all expired rows, in batches, and reports the sessions that expired.
func (s *Store) clean(ctx context.Context) error {
	for {
		n, expired, err := s.cleanBatch(ctx)
		if err != nil {
			return err
		}
		s.expiry.report(expired)
		if n < cleanBatch {
			return nil
		}
		if !pause(ctx, 1) { // other transactions come in between
			return ctx.Err()
		}
	}
}

// cleanBatch removes a batch of rows. It returns how many it removed, and the sessions of users
// that expired.
func (s *Store) cleanBatch(ctx context.Context) (n int, expired []driver.ExpiredSession, err error) {
	// After an unknown outcome a repetition finds fewer rows: reports are lost, but none is made
	// twice.
	err = s.transact(ctx, s.q.lockRow, true, func(tx *transaction) error {
		n, expired = 0, nil
		st, _, err := tx.loadState("")
		if err != nil {
			return err
		}
		err = tx.query(s.q.clean, func(in *sql.Rows) error {
			n++
			e, err := scanExpired(in, &st)
			if e.Owner != (driver.Hash{}) {
				expired = append(expired, e)
			}
			return err
		}, st.epoch, micros(st.now))
		if err != nil {
			return err
		}
		removed, err := tx.execCount(s.q.cleanData, int64(userDataEpoch), micros(st.now))
		if n = max(n, int(removed)); err != nil {
			return err
		}
		return tx.exec(s.q.forget, micros(st.now.Add(-driver.MaxSignInTime)))
	})
	return n, expired, err
}

// scanExpired reads a removed row. The result has an owner only if the row was a session of a user
// that expired, and not one that EndAll ended.
func scanExpired(in *sql.Rows, st *state) (e driver.ExpiredSession, err error) {
	var handle string
	var epoch, expires int64
	var owner sql.NullString
	var metadata []byte
	if err := scan(in, &handle, &epoch, &owner, &expires, &metadata); err != nil {
		return e, err
	}
	if !owner.Valid || epoch != st.epoch {
		return e, nil
	}
	e.At = fromMicros(expires)
	if e.ID, err = driver.ParseID(handle); err != nil {
		return e, nil //nolint:nilerr // a row that nobody can have stored: it is removed
	}
	if e.Owner, err = driver.ParseHash(owner.String); err != nil {
		return driver.ExpiredSession{}, nil //nolint:nilerr // the same
	}
	if r, err := decodeMetadata(handle, metadata); err == nil {
		e.Record = r
	}
	return e, nil
}
