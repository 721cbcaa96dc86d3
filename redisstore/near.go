package redisstore

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// nearCache keeps decoded records in this process. These rules keep it correct:
//
//   - A copy exists only while the server tracks its key for the connection that read it. Every
//     read and every script on the tracked connection ends with a read of the key.
//   - A fill can race with an invalidation. Each shard has a generation. Each invalidation raises
//     it, and each own change does before it is acknowledged. A fill is discarded if the
//     generation is not the one from before its read was sent.
//   - A copy is served only under the lease.
//   - The revocations of its bucket are read with a record, on the same connection. When they
//     change, a copy of the bucket is a miss until revokedSince has confirmed it.
//   - When a connection is lost, its copies are distrusted. Only LoadStale still returns them.
type nearCache struct {
	shards      [256]nearShard
	revocations []atomic.Uint32 // by bucket: how often its revocations changed.
	reads       bucketReads
	keys        keyspace
	limit       int // bytes a shard
	maxAge      time.Duration
	lease       lease
	watchers    driver.Watchers
}

type nearShard struct {
	mu         sync.Mutex
	generation uint64
	epoch      uint64 // raised by distrust: copies of earlier epochs are stale
	copies     map[driver.ID]*nearCopy
	known      map[driver.ID]ownership // without a copy: their reads are tracked
	bytes      int
	stats      driver.NearStats
}

type nearCopy struct {
	record      *driver.Record
	asked       time.Time // when the read was sent
	epoch       uint64
	revocations uint32 // of its bucket, when the read was sent
	used        bool   // since eviction last looked
}

// maxKnown bounds nearShard.known.
const maxKnown = 1024

func newNearCache(o *Options) *nearCache {
	n := &nearCache{keys: newKeyspace(o.Namespace), limit: o.NearCache / len(nearCache{}.shards), maxAge: o.MaxAge}
	// By itself, because the garbage collector looks for pointers in all of nearCache.
	n.revocations = make([]atomic.Uint32, 1<<16)
	n.lease.length, n.lease.wake = o.Lease, make(chan struct{}, 1)
	for i := range n.shards {
		n.shards[i].copies = map[driver.ID]*nearCopy{}
		n.shards[i].known = map[driver.ID]ownership{}
	}
	return n
}

func (n *nearCache) shard(id driver.ID) *nearShard { return &n.shards[id.Selector[0]] }

// readMark holds what must not change between a read and the fill after it.
type readMark struct {
	generation  uint64
	revocations uint32
}

// lookup returns a copy that may be served, or nil. It also returns what fill needs after a read,
// and whether the session is known to exist.
func (n *nearCache) lookup(id driver.ID) (r *driver.Record, mark readMark, known bool) {
	s := n.shard(id)
	mark.revocations = n.revocations[id.Bucket].Load()
	now := time.Now()
	trusted := n.lease.valid(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	mark.generation = s.generation
	c := s.copies[id]
	if c != nil && trusted && n.servable(s, c, mark.revocations, now) {
		c.used = true
		s.stats.Hits++
		return c.record, mark, true
	}
	s.stats.Misses++
	_, known = s.known[id]
	return nil, mark, known || c != nil || n.watchers.Has(id)
}

// servable reports whether a copy may be served under a valid lease. revocations is the current
// count of its bucket.
func (n *nearCache) servable(s *nearShard, c *nearCopy, revocations uint32, now time.Time) bool {
	return c.epoch == s.epoch && c.notRevokedSince(revocations) && now.Sub(c.asked) < n.maxAge
}

// peek returns a copy that may be served, or nil. Unlike lookup it does not count a read.
func (n *nearCache) peek(id driver.ID) *driver.Record {
	s, now := n.shard(id), time.Now()
	if !n.lease.valid(now) {
		return nil
	}
	revocations := n.revocations[id.Bucket].Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.copies[id]; c != nil && n.servable(s, c, revocations, now) {
		return c.record
	}
	return nil
}

// knows reports whether this process has read or made the session, as far as it remembers.
func (n *nearCache) knows(id driver.ID) bool {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.known[id]
	return known || s.copies[id] != nil
}

// notRevokedSince reports that no revocation can concern a copy: nobody is signed in, or the
// bucket's revocations did not change since it was read.
func (c *nearCopy) notRevokedSince(revocations uint32) bool {
	return c.record.Principal == nil || c.revocations == revocations
}

// stale returns a copy that may be out of date by Options.MaxAge, or nil.
func (n *nearCache) stale(id driver.ID) *driver.Record {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.copies[id]; c != nil && c.notRevokedSince(n.revocations[id.Bucket].Load()) && time.Since(c.asked) < n.maxAge {
		return c.record
	}
	return nil
}

// fill keeps a record that was read, unless its shard changed since the read was sent.
func (n *nearCache) fill(id driver.ID, r *driver.Record, asked time.Time, mark readMark) {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == mark.generation {
		s.put(n, id, r, asked, mark.revocations)
	}
}

// learn notes that a session exists, so that its next read is tracked.
func (n *nearCache) learn(id driver.ID) {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learn(id, ownership{})
}

// replace updates a copy after an own change, before the change is acknowledged. It calls next
// only with the version on which the change was made. next returns the new record, or nil to drop
// the copy. replace returns the new record, or nil if there is no copy of it.
func (n *nearCache) replace(
	id driver.ID, before uint64, asked time.Time, next func(*driver.Record) *driver.Record,
) *driver.Record {
	defer n.watchers.Wake(id)
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	c := s.copies[id]
	if c == nil {
		s.learn(id, ownership{})
		return nil
	}
	if c.epoch == s.epoch && c.notRevokedSince(n.revocations[id.Bucket].Load()) && c.record.Revision == before {
		if r := next(c.record); r != nil {
			s.put(n, id, r, asked, c.revocations)
			return r
		}
	}
	s.remove(id)
	s.learn(id, c.ownership())
	return nil
}

// generation returns what add needs. Call it before the session is created.
func (n *nearCache) generation(id driver.ID) uint64 {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// add keeps the record of an anonymous session that this process created, unless its shard
// changed since: then the connection that tracks the key may be lost.
func (n *nearCache) add(id driver.ID, r *driver.Record, asked time.Time, generation uint64) {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == generation && r.Principal == nil {
		s.put(n, id, r, asked, 0)
	} else {
		s.learn(id, ownership{})
	}
}

// drop removes the copy of a session that changed or ended.
func (n *nearCache) drop(id driver.ID) {
	defer n.watchers.Wake(id)
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	if c := s.copies[id]; c != nil {
		s.remove(id)
		s.stats.Drops++
		s.learn(id, c.ownership())
	}
}

// revocationsChanged makes all copies of a bucket misses, until they are confirmed.
func (n *nearCache) revocationsChanged(bucket uint16) {
	n.revocations[bucket].Add(1)
	n.watchers.WakeBucket(bucket)
}

// distrust makes all copies stale.
func (n *nearCache) distrust() {
	for i := range n.shards {
		s := &n.shards[i]
		s.mu.Lock()
		s.generation++
		s.epoch++
		s.mu.Unlock()
	}
	n.reads.forget()
	n.watchers.WakeAll()
}

// stats returns the sums over all shards.
func (n *nearCache) stats() (sum driver.NearStats) {
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

// put keeps a copy, unless there is a newer one, and evicts others if the shard is full.
func (s *nearShard) put(n *nearCache, id driver.ID, r *driver.Record, asked time.Time, revocations uint32) {
	c := s.copies[id]
	if c != nil && c.epoch == s.epoch && c.record.Revision > r.Revision && c.record.Secret == r.Secret {
		return
	}
	size := footprint(r)
	if size > n.limit {
		s.remove(id)
		return
	}
	if c == nil {
		c = &nearCopy{}
		s.copies[id] = c
	} else {
		s.bytes -= footprint(c.record)
	}
	*c = nearCopy{record: r, asked: asked, epoch: s.epoch, revocations: revocations}
	s.bytes += size
	delete(s.known, id)
	if s.bytes > n.limit {
		s.makeRoom(n, id)
	}
}

// makeRoom evicts copies until the shard is within its limit, but not that of one session.
func (s *nearShard) makeRoom(n *nearCache, id driver.ID) {
	for other, c := range s.copies { // approximates "least recently used" in the map's random order
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

// learn notes that a session exists. What is known of its owner stays.
func (s *nearShard) learn(id driver.ID, o ownership) {
	if before, known := s.known[id]; known && o == (ownership{}) {
		o = before
	}
	if len(s.known) >= maxKnown {
		for other := range s.known {
			delete(s.known, other)
			break
		}
	}
	s.known[id] = o
}

// footprint estimates the memory that a copy takes.
func footprint(r *driver.Record) int { return 512 + r.Size + 64*len(r.Fields) }
