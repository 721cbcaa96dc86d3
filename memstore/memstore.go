// Package memstore keeps sessions in process memory. Use it for tests, for development, and for
// applications whose sessions may end with the process. For sessions that survive the process, use
// package filestore. For sessions that processes share, use package redisstore.
//
//	sessions, err := session.New(memstore.New(), session.Config{})
//
// Records are distributed over shards, each with a lock. Reading a record copies nothing. No call
// finds a session from the millisecond in which it expires. Its memory is freed within about a
// minute.
package memstore

import (
	"context"
	"iter"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/feed"
	"github.com/coatcheck-go/session/internal/table"
)

// Store is a driver.Store in memory. It is safe for concurrent use.
type Store struct {
	driver.UserStore
	table *table.Table
	feed  feed.Feed
}

// New returns an empty store. It has no goroutines. While it has sessions, it has a timer.
func New() *Store {
	t := table.New(nil, time.Time{})
	return &Store{UserStore: t, table: t}
}

// Len returns the number of sessions. It includes sessions that expired within about the last
// minute.
func (s *Store) Len() int { return s.table.Len() }

// Count implements driver.SessionCounter. It is exact, whatever the sample.
func (s *Store) Count(ctx context.Context, sample int) (driver.Count, error) {
	return s.table.Count(ctx, sample)
}

// Now implements driver.Clock. It is this process's clock, which continues when the system's clock
// is set back.
func (s *Store) Now() time.Time { return s.table.Now() }

// Publishing implements driver.Feed. Only followers in this process get the events.
func (s *Store) Publishing() bool { return s.feed.Publishing() }

// Publish implements driver.Feed.
func (s *Store) Publish(event []byte) { s.feed.Publish(event) }

// Follow implements driver.Feed.
func (s *Store) Follow(ctx context.Context) (iter.Seq2[[]byte, error], error) {
	return s.feed.Follow(ctx)
}

// Watch implements driver.Watcher.
func (s *Store) Watch(id driver.ID, wake func(missed bool)) (stop func()) {
	return s.table.Watch(id, wake)
}

// Join implements driver.Joiner.
func (s *Store) Join(
	ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
) (taken, stored *driver.Result, err error) {
	return s.table.Join(ctx, from, take, into, put)
}

// OnExpiry implements driver.ExpiryReporter. It reports within about a minute.
func (s *Store) OnExpiry(f func(driver.ExpiredSession)) { s.table.OnExpiry(f) }

// EndAndReport implements driver.EndReporter.
func (s *Store) EndAndReport(
	ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt,
) (bool, error) {
	return s.table.EndAndReport(ctx, id, owner, attempt)
}

// Close stops the timer. It is not necessary for a store that is no longer used.
func (s *Store) Close() error {
	s.table.Close()
	s.feed.Close()
	return nil
}
