package filestore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/table"
)

// journal writes changes to the database, a batch at a time. It implements table.Journal.
type journal struct {
	db    *bolt.DB
	path  string
	table *table.Table
	lazy  bool // acknowledge changes before they are written
	every time.Duration

	wake    chan struct{} // signals that there is something to write; has room for one
	stopped chan struct{} // closed when the writer has returned
	state   state         // the state in the file; only the writer uses it

	mu     sync.Mutex
	next   *batch      // the next batch, never nil
	timer  *time.Timer // wakes the writer for changes that no caller waits for
	closed bool
	failed error // the first write error
}

// batch is the changes that one transaction writes: the last version of each record, nil for its
// end. It is the receipt for all of them.
type batch struct {
	records map[driver.ID]*driver.Record
	revoked time.Time     // the last revocation; zero: none
	done    chan struct{} // closed when err is set
	err     error
}

// maxLazy bounds the changes that are acknowledged and not written. Above it a change waits for the
// disk, as with Always.
const maxLazy = 1 << 16

func newJournal(db *bolt.DB, path string, s state, o Options) *journal {
	j := &journal{
		db: db, path: path, lazy: o.Durability == Interval, every: o.Every, state: s,
		wake: make(chan struct{}, 1), stopped: make(chan struct{}), next: newBatch(),
	}
	j.timer = time.AfterFunc(time.Hour, j.wakeWriter)
	j.timer.Stop()
	return j
}

func newBatch() *batch {
	return &batch{records: map[driver.ID]*driver.Record{}, done: make(chan struct{})}
}

// Append implements table.Journal.
func (j *journal) Append(id driver.ID, r *driver.Record) table.Receipt {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(table.Version{ID: id, Record: r})
}

// AppendAll implements table.Journal. All versions are in one batch, so one transaction writes
// them.
func (j *journal) AppendAll(versions []table.Version) table.Receipt {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(versions...)
}

func (j *journal) append(versions ...table.Version) table.Receipt {
	if err := j.refusalLocked(); err != nil {
		return refused{err}
	}
	if j.lazy && len(j.next.records) < maxLazy {
		for _, v := range versions {
			j.enqueue(v.ID, v.Record)
		}
		return nil
	}
	for _, v := range versions {
		j.next.records[v.ID] = v.Record
	}
	j.wakeWriter()
	return j.next
}

// Note implements table.Journal.
func (j *journal) Note(id driver.ID, r *driver.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.refusalLocked() == nil {
		j.enqueue(id, r)
	}
}

// Revoke implements table.Journal.
func (j *journal) Revoke(at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.refusalLocked() == nil {
		if len(j.next.records) == 0 {
			j.timer.Reset(j.every)
		}
		j.next.revoked = at
	}
}

// enqueue adds a version to the next batch, which is written within the interval.
func (j *journal) enqueue(id driver.ID, r *driver.Record) {
	if len(j.next.records) == 0 {
		j.timer.Reset(j.every)
	}
	j.next.records[id] = r
}

// Err implements table.Journal.
func (j *journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.refusalLocked()
}

// refusalLocked returns why changes are refused, or nil. The caller holds the lock.
func (j *journal) refusalLocked() error {
	if j.failed == nil && j.closed {
		return errClosed
	}
	return j.failed
}

func (j *journal) wakeWriter() {
	select {
	case j.wake <- struct{}{}:
	default: // the writer is awake and has not taken the batch yet
	}
}

// Wait implements table.Receipt.
func (b *batch) Wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	default:
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", driver.ErrUnknown, context.Cause(ctx))
	}
}

// refused is the receipt of a change that is not written.
type refused struct{ err error }

func (r refused) Wait(context.Context) error { return r.err }

// run is the writer. It returns when the journal is closed, after the last batch.
func (j *journal) run() {
	defer close(j.stopped)
	// In this goroutine, a file that is truncated under the memory map causes an error, not a
	// crash.
	debug.SetPanicOnFault(true)
	for range j.wake {
		b, last := j.take()
		if len(b.records) > 0 || !b.revoked.IsZero() || last {
			b.err = j.write(b)
		} else { // a caller may wait for the earlier batches
			b.err = j.failure()
		}
		close(b.done)
		if last {
			return
		}
	}
}

// take returns the batch to be written and starts the next one.
func (j *journal) take() (b *batch, last bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	b, j.next = j.next, newBatch()
	j.timer.Stop()
	return b, j.closed
}

// write makes a batch durable and then publishes it. After an error it writes nothing more.
func (j *journal) write(b *batch) error {
	if err := j.failure(); err != nil {
		return err // the batch was certainly not written
	}
	if err := j.commit(b.records, b.revoked); err != nil {
		err = fmt.Errorf("filestore: writing %s failed, and changes are refused until the store is opened again: %w",
			j.path, err)
		j.mu.Lock()
		j.failed = err
		j.mu.Unlock()
		return fmt.Errorf("%w: %w", driver.ErrUnknown, err)
	}
	for id, r := range b.records {
		if r != nil {
			j.table.Publish(id, r)
		}
	}
	return nil
}

func (j *journal) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// commit writes records in one transaction, with the time of a revocation unless that is zero.
func (j *journal) commit(records map[driver.ID]*driver.Record, revoked time.Time) (err error) {
	// After a panic the transaction stays open: a rollback would read the pages that caused the
	// panic.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errBroken, p)
		}
	}()
	tx, err := j.db.Begin(true)
	if err != nil {
		return err
	}
	next := j.state
	sessions := tx.Bucket(bucketSessions)
	var values []byte // bbolt requires that it stays unchanged until the commit
	for id, r := range records {
		if values, err = next.put(sessions, values, id, r); err != nil {
			tx.Rollback()
			return err
		}
	}
	next.advance(j.table.Now())
	if revoked.After(next.Revoked) {
		next.Revoked = revoked
	}
	if err := next.write(tx); err != nil {
		tx.Rollback()
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	j.state = next
	return nil
}

// errBroken reports a transaction that could not be rolled back. The database cannot be closed
// then.
var errBroken = errors.New("the file changed under the store")

// remove deletes records before the writer runs, in transactions of a bounded size.
func (j *journal) remove(ids []driver.ID) error {
	const most = 10_000
	for len(ids) > 0 {
		n := min(most, len(ids))
		records := make(map[driver.ID]*driver.Record, n)
		for _, id := range ids[:n] {
			records[id] = nil
		}
		if err := j.commit(records, time.Time{}); err != nil {
			return fmt.Errorf("filestore: removing expired sessions from %s: %w", j.path, err)
		}
		ids = ids[n:]
	}
	return nil
}

// close writes the last batch and the time, and closes the database. It returns the first write
// error.
func (j *journal) close() error {
	j.mu.Lock()
	j.closed = true
	j.timer.Stop()
	j.mu.Unlock()
	j.wakeWriter()
	<-j.stopped
	if errors.Is(j.failed, errBroken) {
		return j.failed // the system releases the lock when the process ends
	}
	return errors.Join(j.failed, j.db.Close())
}
