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
	result  error // of Close
}

// Open opens the store in a directory, and makes both if they are not there, for this user only. It reads all sessions into
// memory, which takes some seconds for a million of them. The store holds a lock on the file and a goroutine until Close.
//
// An error says what to do about it: another process has the store open, the directory cannot be written, the file is damaged
// or is not a store. The file is then as it was.
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
		if !errors.Is(err, errBroken) { // a transaction that was left open would keep Close waiting
			err = errors.Join(err, db.Close())
		}
		return nil, err
	}
	go s.journal.run()
	return s, nil
}

// restore fills the table from the file, and prepares the journal to go on from there.
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

// Now implements driver.Clock: this process's clock, which runs on when the system's is set back, and never behind what was written.
func (s *Store) Now() time.Time { return s.table.Now() }

// Publishing implements driver.Feed: for those who follow in this process.
func (s *Store) Publishing() bool { return s.feed.Publishing() }

// Publish implements driver.Feed.
func (s *Store) Publish(event []byte) { s.feed.Publish(event) }

// Follow implements driver.Feed.
func (s *Store) Follow(ctx context.Context) (iter.Seq2[[]byte, error], error) {
	return s.feed.Follow(ctx)
}

// OnExpiry implements driver.ExpiryReporter. It tells within about a minute, also of sessions that expired while the
// store was closed, if f is there within a minute of Open; after a crash perhaps once more.
func (s *Store) OnExpiry(f func(driver.ExpiredSession)) { s.table.OnExpiry(f) }

// EndAndReport implements driver.EndReporter.
func (s *Store) EndAndReport(ctx context.Context, id driver.ID, owner driver.Hash) (bool, error) {
	return s.table.EndAndReport(ctx, id, owner)
}

// Len returns how many sessions there are, counting those that have expired within the last minute or so.
func (s *Store) Len() int { return s.table.Len() }

// Backup writes a copy of the file as it is at this moment: what was acknowledged with [Always], and with [Interval] what
// was written. Sessions may be read and changed meanwhile; the file grows by what they write.
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

// Close writes what is not on the disk yet and gives the file back. Calls under way are answered; those that come after fail
// with an error that wraps os.ErrClosed. It returns the error after which changes were refused, if there was one: with
// [Interval], changes that were acknowledged before are then lost. A second Close returns the same.
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
