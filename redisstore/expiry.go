package redisstore

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// expiry finds the users' sessions that expired. It does not use keyspace notifications: they are
// off by default, late, lost with a connection, and separate on each node of a Cluster.
//
// Each end removes the session from its user's index in the same step. So a session that the
// index names and that has no hash has expired. Exactly one client reports it: the one whose ZREM
// removes it from the index. Clients find such sessions when they read an index. Each client also
// checks the sessions that it signed in or read, at the time at which they are due to expire.
type expiry struct {
	listening atomic.Bool

	mu        sync.Mutex
	listeners []func(driver.ExpiredSession)
	watched   map[driver.ID]struct{}
	queue     watchQueue
	found     []foundExpired // not reported yet
}

// watchedSession is a session to check when it is due.
type watchedSession struct {
	id      driver.ID
	owner   driver.Hash
	created int64 // milliseconds
	due     int64 // milliseconds, by the server's clock
}

type foundExpired struct {
	driver.ExpiredSession
	created int64 // milliseconds
}

const (
	maxWatched = 100_000 // some 150 bytes each; further sessions are found when their index is read
	checkEvery = 250 * time.Millisecond
	checkBatch = 512
)

func newExpiry() *expiry { return &expiry{watched: map[driver.ID]struct{}{}} }

// OnExpiry implements driver.ExpiryReporter. It reports a session within a second of its expiry if
// a client that signed it in, or read it, is still running. It reports other sessions when
// somebody lists, ends or adds to the user's sessions. A client without listeners does that, too,
// and then nobody gets the report.
func (s *Store) OnExpiry(f func(driver.ExpiredSession)) {
	s.expiry.mu.Lock()
	defer s.expiry.mu.Unlock()
	s.expiry.listeners = append(s.expiry.listeners, f)
	s.expiry.listening.Store(true)
}

// watch checks a user's session when it is due to expire.
func (x *expiry) watch(id driver.ID, r *driver.Record) {
	if !x.listening.Load() {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.watched[id]; ok || len(x.queue) >= maxWatched {
		return
	}
	x.push(watchedSession{id, r.Principal.Owner, r.Created.UnixMilli(), r.Expires().UnixMilli()})
}

func (x *expiry) push(w watchedSession) {
	x.watched[w.id] = struct{}{}
	heap.Push(&x.queue, w)
}

// watchAgain checks a session once more, unless it is watched since it was taken out.
func (x *expiry) watchAgain(w watchedSession, due time.Time) {
	w.due = due.UnixMilli()
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.watched[w.id]; !ok {
		x.push(w)
	}
}

// due takes out the sessions to check now.
func (x *expiry) due(now time.Time) (batch []watchedSession) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.queue) > 0 && len(batch) < checkBatch && x.queue[0].due <= now.UnixMilli() {
		w := heap.Pop(&x.queue).(watchedSession)
		delete(x.watched, w.id)
		batch = append(batch, w)
	}
	return batch
}

// note takes sessions that a script of this process removed from an owner's index as expired. It
// ignores those that ended here: the index still named them because a reply was lost.
func (x *expiry) note(
	owner driver.Hash, expired []driver.ID, entries []indexEntry, now time.Time, ended func(driver.ID) bool,
) {
	if len(expired) == 0 || !x.listening.Load() {
		return
	}
	created := make(map[driver.ID]int64, len(entries))
	for _, e := range entries {
		created[e.id] = int64(e.created)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range expired {
		if !ended(id) && len(x.found) < maxWatched {
			x.found = append(x.found, foundExpired{driver.ExpiredSession{ID: id, Owner: owner, At: now}, created[id]})
		}
	}
}

// takeFound returns the sessions to report, and the listeners.
func (x *expiry) takeFound() ([]foundExpired, []func(driver.ExpiredSession)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := x.found
	x.found = nil
	return found, x.listeners
}

// putBackFound undoes takeFound.
func (x *expiry) putBackFound(found []foundExpired) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found = append(found, x.found...)
}

// runExpiry checks sessions that are due, and reports those that expired, until ctx is done.
func (s *Store) runExpiry(ctx context.Context) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !s.expiry.listening.Load() {
			continue
		}
		for batch := s.expiry.due(s.clock.now()); len(batch) > 0 && ctx.Err() == nil; batch = s.expiry.due(s.clock.now()) {
			s.checkDue(ctx, batch)
		}
		s.reportExpired(ctx)
	}
}

// checkDue finds out which sessions are missing, and removes those from their indexes.
func (s *Store) checkDue(ctx context.Context, batch []watchedSession) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	pttls := make([]rueidis.Completed, len(batch))
	for i, w := range batch {
		pttls[i] = s.plain.B().Pttl().Key(s.keys.record(w.id)).Build()
	}
	missing := map[driver.Hash][]indexEntry{}
	now := s.clock.now()
	for i, res := range s.plain.DoMulti(ctx, pttls...) {
		w := batch[i]
		ttl, err := res.AsInt64()
		switch {
		case err != nil:
			s.expiry.watchAgain(w, now.Add(time.Second))
		case ttl != -2:
			s.expiry.watchAgain(w, now.Add(max(time.Duration(ttl)*time.Millisecond, checkEvery)))
		default:
			missing[w.owner] = append(missing[w.owner], indexEntry{w.id.Selector.String(), w.id, float64(w.created)})
		}
	}
	for owner, entries := range missing {
		if s.cleanIndex(ctx, owner, entries) != nil {
			for _, e := range entries {
				s.expiry.watchAgain(watchedSession{e.id, owner, int64(e.created), 0}, now.Add(time.Second))
			}
		}
	}
}

// reportExpired calls the listeners for the sessions that expired. It leaves out those that EndAll
// ended: EndAll does not remove them from their indexes.
func (s *Store) reportExpired(ctx context.Context) {
	found, listeners := s.expiry.takeFound()
	if len(found) == 0 {
		return
	}
	if err := s.withRetry(ctx, globalPlace, readOnly, s.readGlobalRevocation); err != nil {
		s.expiry.putBackFound(found) // the next tick tries again
		return
	}
	for _, e := range found {
		if e.created <= s.global.at.Load() {
			continue
		}
		for _, f := range listeners {
			f(e.ExpiredSession)
		}
	}
}

// watchQueue is a heap. The session that is due first comes first.
type watchQueue []watchedSession

func (q watchQueue) Len() int           { return len(q) }
func (q watchQueue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q watchQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *watchQueue) Push(w any)        { *q = append(*q, w.(watchedSession)) }

func (q *watchQueue) Pop() any {
	old := *q
	w := old[len(old)-1]
	*q = old[:len(old)-1]
	return w
}
