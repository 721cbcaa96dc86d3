package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// transaction is a transaction under way. Its methods return errors of the database as a *failure.
type transaction struct {
	s   *Store
	ctx context.Context //nolint:containedctx // it lives as long as the transaction
	tx  *sql.Tx
}

// failure is an error of the database, unlike the errors of package driver.
type failure struct {
	err     error
	unknown bool // the transaction may have been committed
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// errConflict aborts a transaction that must run again: another one has inserted the same id.
var errConflict = errors.New("another transaction has created the session")

const maxTries = 5

// transact runs f in a transaction, which first takes the lock. It runs f again if the database
// aborted the transaction, or if the connection broke before the commit. If the outcome of the
// commit is unknown, it does so only if the caller says that f recognizes what it has done.
//
// The error is that of f; or driver.ErrUnknown; or says why the database could not answer.
func (s *Store) transact(
	ctx context.Context, lock string, repeatable bool, f func(tx *transaction) error,
) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlstore: nothing was sent: %w", err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var unknown error
	for try := 1; ; try++ {
		err := s.try(ctx, lock, f)
		if err == nil {
			return nil
		}
		var failed *failure
		isFailure := errors.As(err, &failed)
		if isFailure && failed.unknown {
			unknown = err
		}
		again := errors.Is(err, errConflict) || isFailure && (s.isTransient(failed.err) || failed.unknown)
		if again && (unknown == nil || repeatable) && try < maxTries && pause(ctx, try) {
			continue
		}
		switch {
		case unknown != nil: // a later try may describe what this one left behind
			return fmt.Errorf("%w: %v", driver.ErrUnknown, s.explain(unknown))
		case isFailure || errors.Is(err, errConflict):
			return s.explain(err)
		}
		return err
	}
}

// try runs f in one transaction. After an error nothing has been stored, unless the error is a
// failure that says otherwise.
func (s *Store) try(ctx context.Context, lock string, f func(tx *transaction) error) error {
	if s.writer != nil { // SQLite has one writer; waiting here is fair, and costs no connection
		select {
		case s.writer <- struct{}{}:
			defer func() { <-s.writer }()
		case <-ctx.Done():
			return &failure{err: ctx.Err()}
		}
	}
	raw, err := s.db.BeginTx(ctx, s.txOptions)
	if err != nil {
		return &failure{err: err}
	}
	defer raw.Rollback() //nolint:errcheck // it follows another error, or a commit
	tx := &transaction{s, ctx, raw}
	if lock != "" {
		if err := tx.exec(lock); err != nil {
			return err
		}
	}
	if err := f(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return &failure{err: err}
	}
	if err := raw.Commit(); err != nil {
		return &failure{err: err, unknown: !s.isAborted(err)}
	}
	return nil
}

func (tx *transaction) exec(text string, args ...any) error {
	_, err := tx.execCount(text, args...)
	return err
}

// execCount returns how many rows the statement has changed.
func (tx *transaction) execCount(text string, args ...any) (int64, error) {
	res, err := tx.tx.ExecContext(tx.ctx, text, args...)
	if err != nil {
		return 0, &failure{err: err}
	}
	return res.RowsAffected()
}

// query calls each for each row.
func (tx *transaction) query(text string, each func(rows *sql.Rows) error, args ...any) error {
	rows, err := tx.tx.QueryContext(tx.ctx, text, args...)
	return eachRow(rows, err, each)
}

// eachRow calls each for each row of the result of a query.
func eachRow(rows *sql.Rows, err error, each func(rows *sql.Rows) error) error {
	if err != nil {
		return &failure{err: err}
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return &failure{err: err}
	}
	return nil
}

// scanner is what can be scanned: a *sql.Row or a *sql.Rows.
type scanner interface{ Scan(into ...any) error }

// scan reads the columns of a row.
func scan(r scanner, into ...any) error {
	if err := r.Scan(into...); err != nil {
		return &failure{err: err}
	}
	return nil
}

// read runs f, which only reads. It runs f again if the connection broke.
func (s *Store) read(ctx context.Context, f func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlstore: nothing was sent: %w", err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for try := 1; ; try++ {
		err := f(ctx)
		var failed *failure
		if !errors.As(err, &failed) {
			return err
		}
		if !s.isTransient(err) || try == maxTries || !pause(ctx, try) {
			return s.explain(failed.err)
		}
	}
}

// bounded returns the context of one operation. Its deadline is Options.Timeout from now, or that
// of ctx if that is earlier. It is not cancelled with ctx: pgx closes the connection of a query
// that is cancelled, so that clients that hang up could make the store reconnect all the time.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline := time.Now().Add(s.opt.Timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	return context.WithDeadline(context.WithoutCancel(ctx), deadline)
}

// pause waits before a repetition, longer after each try. It reports false if ctx is done.
func pause(ctx context.Context, try int) bool {
	wait := 5 * time.Millisecond << try
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait/2 + rand.N(wait)): //nolint:gosec // jitter is no secret
		return true
	}
}
