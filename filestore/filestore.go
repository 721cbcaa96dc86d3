package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/feed"
	"github.com/coatcheck-go/session/internal/table"
)

// FileName is the name of the database in the directory of a store.
const FileName = "sessions.db"

// Store is a driver.Store in memory and in a file. It is safe for concurrent use.
type Store struct {
	driver.UserStore
	table   *table.Table
	feed    feed.Feed
	journal *journal
	db      *bolt.DB
	closing sync.Once
	closed  atomic.Bool
	result  error // what Close returns
}

// Open opens the store in a directory. It creates the directory and the file if they do not exist,
// readable only by this user. It reads all sessions into memory, which takes some seconds for a
// million sessions. Until Close, the store holds a lock on the file and has a goroutine.
//
// Open returns an error in these cases. The error says what to do, and the file is unchanged.
//
//   - Another process has the store open.
//   - The directory cannot be written.
//   - The file is damaged or not a store.
//   - All users of the machine may write the file or the directory.
//   - The file is a symbolic link. The directory may be one.
func Open(dir string, o Options) (*Store, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, FileName)
	db, err := openFile(path)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db}
	if err := s.restore(path, o); err != nil {
		if !errors.Is(err, errBroken) { // db.Close would wait for the open transaction
			err = errors.Join(err, db.Close())
		}
		return nil, err
	}
	go s.journal.run()
	return s, nil
}

// restore fills the table from the file and creates the journal that continues from its state.
func (s *Store) restore(path string, o Options) error {
	state, err := readState(s.db, path)
	if err != nil {
		return err
	}
	s.journal = newJournal(s.db, path, state, o)
	s.table = table.New(s.journal, state.Time)
	s.journal.table = s.table
	s.table.RestoreRevoked(state.Revoked)
	s.UserStore = s.table
	expired, err := restore(s.db, path, s.table, state)
	if err == nil {
		err = s.journal.remove(expired)
	}
	if err != nil {
		s.table.Close()
	}
	return err
}

// Load implements driver.Store.
func (s *Store) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if s.closed.Load() {
		return nil, time.Time{}, errClosed
	}
	return s.table.Load(ctx, id)
}

// Now implements driver.Clock. It is this process's clock, which continues when the system's clock
// is set back, and is never earlier than the times in the file.
func (s *Store) Now() time.Time { return s.table.Now() }

// Publishing implements driver.Feed. Only followers in this process get the events.
func (s *Store) Publishing() bool { return s.feed.Publishing() }

// Publish implements driver.Feed.
func (s *Store) Publish(event []byte) { s.feed.Publish(event) }

// Follow implements driver.Feed.
func (s *Store) Follow(ctx context.Context) (iter.Seq2[[]byte, error], error) {
	return s.feed.Follow(ctx)
}

// Watch implements driver.Watcher. It reports a change once the change is durable.
func (s *Store) Watch(id driver.ID, wake func(missed bool)) (stop func()) {
	return s.table.Watch(id, wake)
}

// Join implements driver.Joiner.
func (s *Store) Join(
	ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
) (taken, stored *driver.Result, err error) {
	return s.table.Join(ctx, from, take, into, put)
}

// OnExpiry implements driver.ExpiryReporter. It reports within about a minute. It also reports
// sessions that expired while the store was closed, if f is added within a minute after Open. After
// a crash it may report a session again.
func (s *Store) OnExpiry(f func(driver.ExpiredSession)) { s.table.OnExpiry(f) }

// EndAndReport implements driver.EndReporter.
func (s *Store) EndAndReport(
	ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt,
) (bool, error) {
	return s.table.EndAndReport(ctx, id, owner, attempt)
}

// Len returns the number of sessions. It includes sessions that expired within about the last
// minute.
func (s *Store) Len() int { return s.table.Len() }

// Count implements driver.SessionCounter. It is exact, whatever the sample.
func (s *Store) Count(ctx context.Context, sample int) (driver.Count, error) {
	return s.table.Count(ctx, sample)
}

// Backup writes a copy of the file as it is at this moment: with [Always], all acknowledged
// changes; with [Interval], all written ones. Sessions can be read and changed in the meantime, and
// the file grows by these changes.
func (s *Store) Backup(w io.Writer) error {
	if s.closed.Load() {
		return errClosed
	}
	if err := s.journal.Err(); errors.Is(err, errBroken) {
		return err
	}
	err := s.db.View(func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("filestore: backup of %s: %w", s.journal.path, err)
	}
	return nil
}

// Close writes what is not on the disk yet and closes the file. Calls under way are completed.
// Later calls fail with an error that wraps os.ErrClosed. A second Close returns the same as the
// first.
//
// Close returns the write error after which changes were refused, if there was one. With
// [Interval], changes that were acknowledged before that error are then lost.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.closed.Store(true)
		s.table.Close()
		s.feed.Close()
		s.result = s.journal.close()
	})
	return s.result
}

var errClosed = fmt.Errorf("filestore: the store is closed: %w", os.ErrClosed)
