// Package memstore keeps sessions in process memory: for tests, for development, and for applications whose sessions may
// end with the process. For sessions that survive it use package filestore; for sessions that processes share, package
// redisstore.
//
//	sessions, err := session.New(memstore.New(), session.Config{})
//
// Records are spread over shards with a lock each; reading one copies nothing. A session that has expired is not found from
// that millisecond on, and its memory is given back within about a minute.
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

// New returns an empty store. It has no goroutine; while it holds sessions it has a timer.
func New() *Store {
	t := table.New(nil, time.Time{})
	return &Store{UserStore: t, table: t}
}

// Len returns how many sessions there are, counting those that have expired within the last minute or so.
func (s *Store) Len() int { return s.table.Len() }

// Now implements driver.Clock: this process's clock, which runs on when the system's is set back.
func (s *Store) Now() time.Time { return s.table.Now() }

// Publishing implements driver.Feed: for those who follow in this process.
func (s *Store) Publishing() bool { return s.feed.Publishing() }

// Publish implements driver.Feed.
func (s *Store) Publish(event []byte) { s.feed.Publish(event) }

// Follow implements driver.Feed.
func (s *Store) Follow(ctx context.Context) (iter.Seq2[[]byte, error], error) {
	return s.feed.Follow(ctx)
}

// OnExpiry implements driver.ExpiryReporter. It tells within about a minute.
func (s *Store) OnExpiry(f func(driver.ExpiredSession)) { s.table.OnExpiry(f) }

// EndAndReport implements driver.EndReporter.
func (s *Store) EndAndReport(ctx context.Context, id driver.ID, owner driver.Hash) (bool, error) {
	return s.table.EndAndReport(ctx, id, owner)
}

// Close stops the timer. A store that is no longer referred to needs no Close.
func (s *Store) Close() error {
	s.table.Close()
	s.feed.Close()
	return nil
}
