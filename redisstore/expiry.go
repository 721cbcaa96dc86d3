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

// expiry finds out which sessions of users have expired, without the server's help: keyspace notifications are off by default, late, lost
// with a connection, and on a Cluster each node's own.
//
// A user's index names a session until somebody removes it: who ends a session does, in the same step. So one that it names and that is not
// there has expired, and whose ZREM removes it tells of that. It is found when the index is visited; and this process looks by itself, when
// a session that was signed in or used here is about to expire.
type expiry struct {
	listening atomic.Bool

	mu        sync.Mutex
	listeners []func(driver.ExpiredSession)
	watched   map[driver.ID]struct{}
	queue     watchQueue
	found     []foundExpired // not told yet
}

// watched is a session that is looked at when it is due.
type watched struct {
	id      driver.ID
	owner   driver.Hash
	created int64 // milliseconds
	due     int64 // by the server's clock, milliseconds
}

type foundExpired struct {
	driver.ExpiredSession
	created int64
}

const (
	maxWatched = 100_000 // some 150 bytes each; those that are over it are found by the next visit
	lookEvery  = 250 * time.Millisecond
	lookBatch  = 512
)

func newExpiry() *expiry { return &expiry{watched: map[driver.ID]struct{}{}} }

// OnExpiry implements driver.ExpiryReporter. It tells within a second of the time at which a session expires that was signed in, or read, by a
// client which is still there; of others at the next visit: when somebody lists, ends or adds to the user's sessions. A client on which
// nobody listens visits, too, and then nobody hears.
func (s *Store) OnExpiry(f func(driver.ExpiredSession)) {
	s.expiry.mu.Lock()
	defer s.expiry.mu.Unlock()
	s.expiry.listeners = append(s.expiry.listeners, f)
	s.expiry.listening.Store(true)
}

// watch has a session of a user looked at when it is due to expire.
func (x *expiry) watch(id driver.ID, r *driver.Record) {
	if !x.listening.Load() {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.watched[id]; ok || len(x.queue) >= maxWatched {
		return
	}
	x.push(watched{id, r.Principal.Owner, r.Created.UnixMilli(), r.Expires().UnixMilli()})
}

func (x *expiry) push(w watched) {
	x.watched[w.id] = struct{}{}
	heap.Push(&x.queue, w)
}

// again has a session looked at again.
func (x *expiry) again(w watched, due time.Time) {
	w.due = due.UnixMilli()
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.watched[w.id]; !ok { // somebody has used it meanwhile
		x.push(w)
	}
}

// due takes out those that are to be looked at now.
func (x *expiry) due(now time.Time) (batch []watched) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.queue) > 0 && len(batch) < lookBatch && x.queue[0].due <= now.UnixMilli() {
		w := heap.Pop(&x.queue).(watched)
		delete(x.watched, w.id)
		batch = append(batch, w)
	}
	return batch
}

// gone notes which of an owner's sessions have expired: a script that this process sent has removed them from the index. Those that ended
// here, and were in the index for want of an answer, have not.
func (x *expiry) gone(owner driver.Hash, expired []driver.ID, members []member, now time.Time, ended func(driver.ID) bool) {
	if len(expired) == 0 || !x.listening.Load() {
		return
	}
	created := make(map[driver.ID]int64, len(members))
	for _, m := range members {
		created[m.id] = int64(m.created)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range expired {
		if !ended(id) && len(x.found) < maxWatched {
			x.found = append(x.found, foundExpired{driver.ExpiredSession{ID: id, Owner: owner, At: now}, created[id]})
		}
	}
}

// take returns what was found, and who is to be told.
func (x *expiry) take() ([]foundExpired, []func(driver.ExpiredSession)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := x.found
	x.found = nil
	return found, x.listeners
}

// back puts back what take returned.
func (x *expiry) back(found []foundExpired) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found = append(found, x.found...)
}

// tellExpired looks at sessions that are due, and tells what was found, until ctx is done.
func (s *Store) tellExpired(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
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
			s.look(ctx, batch)
		}
		s.tellFound(ctx)
	}
}

// look finds out which of the sessions that were due are there no longer.
func (s *Store) look(ctx context.Context, batch []watched) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	pttls := make([]rueidis.Completed, len(batch))
	for i, w := range batch {
		pttls[i] = s.plain.B().Pttl().Key(s.keys.session(w.id)).Build()
	}
	gone := map[driver.Hash][]member{}
	now := s.clock.now()
	for i, res := range s.plain.DoMulti(ctx, pttls...) {
		w := batch[i]
		ttl, err := res.AsInt64()
		switch {
		case err != nil:
			s.expiry.again(w, now.Add(time.Second))
		case ttl != -2:
			s.expiry.again(w, now.Add(max(time.Duration(ttl)*time.Millisecond, lookEvery)))
		default:
			gone[w.owner] = append(gone[w.owner], member{w.id.Selector.String(), w.id, float64(w.created)})
		}
	}
	for owner, members := range gone {
		if s.clean(ctx, owner, members) != nil {
			for _, m := range members {
				s.expiry.again(watched{m.id, owner, int64(m.created), 0}, now.Add(time.Second))
			}
		}
	}
}

// clean removes sessions that are gone from a user's index.
func (s *Store) clean(ctx context.Context, owner driver.Hash, members []member) error {
	keys, args := []string{s.keys.index(owner), s.keys.revocations(driver.BucketOf(owner))}, make([]string, len(members))
	for i, m := range members {
		keys, args[i] = append(keys, s.keys.session(m.id)), m.name
	}
	var r reply
	err := s.attempt(ctx, repeatable, func(ctx context.Context) (err error) {
		r, err = s.execPlain(ctx, cleanScript, keys, args)
		return err
	})
	if err != nil {
		return err
	}
	expired, err := sessionNames(driver.BucketOf(owner), r.rest)
	if err == nil {
		s.expiry.gone(owner, expired, members, s.clock.now(), s.ends.has)
	}
	return err
}

// tellFound tells of sessions that expired, and leaves out those that were ended with everybody's: they were left in their indexes.
func (s *Store) tellFound(ctx context.Context) {
	found, listeners := s.expiry.take()
	if len(found) == 0 {
		return
	}
	revoked, err := s.revokedAll(ctx)
	if err != nil {
		s.expiry.back(found) // and is tried again
		return
	}
	for _, e := range found {
		if e.created <= revoked {
			continue
		}
		for _, f := range listeners {
			f(e.ExpiredSession)
		}
	}
}

// watchQueue is a heap, the first to be looked at first.
type watchQueue []watched

func (q watchQueue) Len() int           { return len(q) }
func (q watchQueue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q watchQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *watchQueue) Push(w any)        { *q = append(*q, w.(watched)) }

func (q *watchQueue) Pop() any {
	old := *q
	w := old[len(old)-1]
	*q = old[:len(old)-1]
	return w
}
