package redisstore

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// near keeps decoded records of this process's sessions. What makes it correct:
//
//   - A copy exists only while the server tracks its key for the connection that read it: every read and every script on the tracked
//     connection ends with a read of the key.
//   - Filling races with dropping. Each shard has a generation, captured before a read is sent, and raised by each invalidation and by
//     each own change before it is acknowledged. A fill with another generation is discarded.
//   - A copy is served only under the lease.
//   - The revocations of its bucket are read with a record, on the same connection. When they change all copies of the bucket are misses.
//   - When a connection is lost its copies are distrusted: only routes that ask for stale data still see them.
type near struct {
	shards  [256]nearShard
	buckets [1 << 16]atomic.Uint32 // how often the revocations of a bucket changed
	keys    keyspace
	limit   int // bytes of a shard
	maxAge  time.Duration
	lease   lease
}

type nearShard struct {
	mu         sync.Mutex
	generation uint64
	epoch      uint64 // raised when what was read before cannot be trusted any longer
	copies     map[driver.ID]*copied
	known      map[driver.ID]struct{} // sessions that exist as far as this process knows: reading them may be tracked
	bytes      int
	stats      NearStats
}

type copied struct {
	record *driver.Record
	asked  time.Time // when the read was sent
	epoch  uint64
	bucket uint32 // near.buckets, when the read was sent
	used   bool   // since eviction last looked
}

// NearStats are figures of the near cache since the store was opened. Bytes and Copies are of now.
type NearStats struct {
	Hits, Misses  uint64 // reads served from a copy, and not
	Drops         uint64 // copies dropped because the session changed elsewhere
	Evictions     uint64 // copies dropped for want of space
	Bytes, Copies int
}

// maxKnown bounds what a shard remembers of sessions that it holds no copy of.
const maxKnown = 1024

func newNear(o *Options) *near {
	n := &near{keys: newKeyspace(o.Namespace), limit: o.NearCache / len(near{}.shards), maxAge: o.MaxAge}
	n.lease.length, n.lease.wake = o.Lease, make(chan struct{}, 1)
	for i := range n.shards {
		n.shards[i].copies = map[driver.ID]*copied{}
		n.shards[i].known = map[driver.ID]struct{}{}
	}
	return n
}

func (n *near) shard(id driver.ID) *nearShard { return &n.shards[id.Selector[0]] }

// ticket is what must not have changed between a read and the fill after it.
type ticket struct {
	shard  uint64
	bucket uint32
}

// lookup returns a copy that may be trusted, or nil, what the fill after a read needs, and whether the session is known to exist.
func (n *near) lookup(id driver.ID) (r *driver.Record, t ticket, known bool) {
	s := n.shard(id)
	t.bucket = n.buckets[id.Bucket].Load()
	now := time.Now()
	trusted := n.lease.valid(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.shard = s.generation
	c := s.copies[id]
	if c != nil && trusted && c.epoch == s.epoch && c.beyond(t.bucket) && now.Sub(c.asked) < n.maxAge {
		c.used = true
		s.stats.Hits++
		return c.record, t, true
	}
	s.stats.Misses++
	_, known = s.known[id]
	return nil, t, known || c != nil
}

// beyond reports that revocations do not concern a copy: nobody is signed in, or none was made since it was read.
func (c *copied) beyond(bucket uint32) bool { return c.record.Principal == nil || c.bucket == bucket }

// stale returns a copy that nobody vouches for, of the stated age at most.
func (n *near) stale(id driver.ID) *driver.Record {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.copies[id]; c != nil && c.beyond(n.buckets[id.Bucket].Load()) && time.Since(c.asked) < n.maxAge {
		return c.record
	}
	return nil
}

// fill keeps a record that was read, unless something happened to its shard since the read was sent.
func (n *near) fill(id driver.ID, r *driver.Record, asked time.Time, t ticket) {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == t.shard {
		s.put(n, id, r, asked, t.bucket)
	}
}

// learn notes that a session exists, so that its next read may be tracked.
func (n *near) learn(id driver.ID) {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learn(id)
}

// replace brings a copy up to date after an own change, before the change is acknowledged. next makes the new record from the copy's;
// it is called only if the copy is the very version that the change was made on, and may return nil. It returns the new record, or nil
// if there is none at hand.
func (n *near) replace(id driver.ID, before uint64, asked time.Time, next func(*driver.Record) *driver.Record) *driver.Record {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	c := s.copies[id]
	if c == nil {
		s.learn(id)
		return nil
	}
	if c.epoch == s.epoch && c.beyond(n.buckets[id.Bucket].Load()) && c.record.Revision == before {
		if r := next(c.record); r != nil {
			s.put(n, id, r, asked, c.bucket)
			return r
		}
	}
	s.remove(id)
	s.learn(id)
	return nil
}

// generation is what add needs: captured before the session is created.
func (n *near) generation(id driver.ID) uint64 {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// add keeps the record of an anonymous session that this process created, unless something happened to its shard meanwhile: the connection that
// tracks it may be gone by now.
func (n *near) add(id driver.ID, r *driver.Record, asked time.Time, generation uint64) {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == generation && r.Principal == nil {
		s.put(n, id, r, asked, 0)
	} else {
		s.learn(id)
	}
}

// drop forgets a session that changed or ended.
func (n *near) drop(id driver.ID) {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	if s.copies[id] != nil {
		s.remove(id)
		s.stats.Drops++
		s.learn(id)
	}
}

// distrust makes all copies stale.
func (n *near) distrust() {
	for i := range n.shards {
		s := &n.shards[i]
		s.mu.Lock()
		s.generation++
		s.epoch++
		s.mu.Unlock()
	}
}

// snapshot sums the figures of the shards.
func (n *near) snapshot() (sum NearStats) {
	for i := range n.shards {
		s := &n.shards[i]
		s.mu.Lock()
		sum.Hits += s.stats.Hits
		sum.Misses += s.stats.Misses
		sum.Drops += s.stats.Drops
		sum.Evictions += s.stats.Evictions
		sum.Bytes += s.bytes
		sum.Copies += len(s.copies)
		s.mu.Unlock()
	}
	return sum
}

func (s *nearShard) put(n *near, id driver.ID, r *driver.Record, asked time.Time, bucket uint32) {
	if c := s.copies[id]; c != nil && c.epoch == s.epoch && c.record.Revision > r.Revision && c.record.Secret == r.Secret {
		return // never back
	}
	s.remove(id)
	size := footprint(r)
	if size > n.limit {
		return
	}
	s.copies[id] = &copied{record: r, asked: asked, epoch: s.epoch, bucket: bucket}
	s.bytes += size
	delete(s.known, id)
	for other, c := range s.copies { // an approximate "least recently used": two rounds in the map's random order
		if s.bytes <= n.limit {
			return
		}
		if other != id && !c.used {
			s.evict(other)
		}
		c.used = false
	}
	for other := range s.copies {
		if s.bytes <= n.limit {
			return
		}
		if other != id {
			s.evict(other)
		}
	}
}

func (s *nearShard) evict(id driver.ID) {
	s.remove(id)
	s.stats.Evictions++
}

func (s *nearShard) remove(id driver.ID) {
	if c := s.copies[id]; c != nil {
		s.bytes -= footprint(c.record)
		delete(s.copies, id)
	}
}

func (s *nearShard) learn(id driver.ID) {
	if len(s.known) >= maxKnown {
		for other := range s.known {
			delete(s.known, other)
			break
		}
	}
	s.known[id] = struct{}{}
}

// footprint is about what a copy takes in memory.
func footprint(r *driver.Record) int { return 512 + r.Size + 64*len(r.Fields) }

// lease says how long copies may be trusted without a sign of life.
type lease struct {
	length time.Duration
	until  atomic.Int64  // by the monotonic clock, since started
	ended  atomic.Int64  // as until: what was asked before does not renew it
	wake   chan struct{} // a checkup is due
}

var started = time.Now()

// renew extends the lease from the moment at which the question was sent that was answered well.
func (l *lease) renew(asked time.Time) {
	if int64(asked.Sub(started)) <= l.ended.Load() {
		return
	}
	until := int64(asked.Sub(started) + l.length)
	for {
		old := l.until.Load()
		if until <= old || l.until.CompareAndSwap(old, until) {
			return
		}
	}
}

// end ends the lease until a question is answered well that is yet to be sent.
func (l *lease) end() {
	l.ended.Store(int64(time.Since(started)))
	l.until.Store(0)
	l.checkup()
}

// checkup has the next one made at once. It does not block.
func (l *lease) checkup() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lease) valid(now time.Time) bool { return int64(now.Sub(started)) < l.until.Load() }
