package driver

import (
	"sync"
	"sync/atomic"
)

// Watcher is a Store that says when the answer of Load may have changed. Without it, the caller
// polls.
type Watcher interface {
	// Watch calls wake after each change of the record under id, as soon as Load shows the change.
	// A touch, an end, a revocation, and a sign-in that replaces the session count as changes. The
	// expiry of the record does not.
	//
	// If the store may have missed changes, for example while a connection was lost, it calls wake
	// with missed set. The store may call wake more often than needed. The caller loads the record
	// after Watch has returned and after each wake. Until then the store need not report the next
	// change.
	//
	// The store may hold locks while it calls wake, so wake must not block and must not call the
	// store. wake is not called after stop has returned.
	//
	// stop is nil if the store cannot watch with its settings. The caller then polls it.
	Watch(id ID, wake func(missed bool)) (stop func())
}

// Watchers implements Watcher for a store that calls its Wake methods. The zero Watchers is ready
// for use. It is safe for concurrent use. Wake costs one atomic read while nobody watches.
type Watchers struct {
	count  atomic.Int64
	shards [64]watchShard
}

type watchShard struct {
	mu   sync.Mutex
	byID map[ID]map[*watch]struct{}
}

type watch struct{ wake func(missed bool) }

// shard returns where a record's watchers are. All records of a bucket share one.
func (w *Watchers) shard(bucket uint16) *watchShard { return &w.shards[bucket%64] }

// Watch implements Watcher.
func (w *Watchers) Watch(id ID, wake func(missed bool)) (stop func()) {
	s, one := w.shard(id.Bucket), &watch{wake}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[ID]map[*watch]struct{}{}
	}
	if s.byID[id] == nil {
		s.byID[id] = map[*watch]struct{}{}
	}
	s.byID[id][one] = struct{}{}
	w.count.Add(1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, ok := s.byID[id][one]; !ok {
			return
		}
		w.count.Add(-1)
		if delete(s.byID[id], one); len(s.byID[id]) == 0 {
			delete(s.byID, id)
		}
	}
}

// Has reports whether the record under id is watched.
func (w *Watchers) Has(id ID) bool {
	if w.count.Load() == 0 {
		return false
	}
	s := w.shard(id.Bucket)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id] != nil
}

// Wake wakes the watchers of the record under id. Call it after Load shows the change.
func (w *Watchers) Wake(id ID) {
	if w.count.Load() == 0 {
		return
	}
	s := w.shard(id.Bucket)
	s.mu.Lock()
	defer s.mu.Unlock()
	for one := range s.byID[id] {
		one.wake(false)
	}
}

// WakeBucket wakes the watchers of all records of a bucket. Call it after a revocation.
func (w *Watchers) WakeBucket(bucket uint16) {
	if w.count.Load() != 0 {
		w.shard(bucket).wakeIf(func(id ID) bool { return id.Bucket == bucket }, false)
	}
}

// WakeAll wakes all watchers, and tells them that they may have missed changes.
func (w *Watchers) WakeAll() {
	if w.count.Load() == 0 {
		return
	}
	for i := range w.shards {
		w.shards[i].wakeIf(func(ID) bool { return true }, true)
	}
}

func (s *watchShard) wakeIf(wanted func(ID) bool, missed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, watches := range s.byID {
		if !wanted(id) {
			continue
		}
		for one := range watches {
			one.wake(missed)
		}
	}
}
