package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// bucketReads are recent reads of buckets' revocations. When a user is revoked, one read decides
// about the copies of all the user's sessions in this process. Without it each of a thousand open
// responses would read its session again. The zero bucketReads is ready.
type bucketReads struct {
	mu       sync.Mutex
	byBucket map[uint16]*bucketRead
}

// bucketRead is the last read of one bucket's revocations.
type bucketRead struct {
	turn chan struct{} // holds a value while somebody uses the fields below

	known   bool
	changes uint32 // nearCache.revocations when the read was sent
	values  map[string]string
}

// maxBucketReads bounds bucketReads.byBucket.
const maxBucketReads = 64

func (b *bucketReads) of(bucket uint16) *bucketRead {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.byBucket[bucket]; r != nil {
		return r
	}
	if b.byBucket == nil || len(b.byBucket) >= maxBucketReads {
		b.byBucket = map[uint16]*bucketRead{}
	}
	r := &bucketRead{turn: make(chan struct{}, 1)}
	b.byBucket[bucket] = r
	return r
}

// forget makes the next caller read again. A read that is under way decides only about copies of
// its callers.
func (b *bucketReads) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.byBucket = nil
}

// ownership is what never changes under the key of a user's session, and a count: how often the
// revocations of the session's bucket had changed when they were last read. The zero ownership is
// that of a session of which this is not known, or that has no owner.
type ownership struct {
	owner       driver.Hash
	created     int64 // in milliseconds
	revocations uint32
}

func (c *nearCopy) ownership() (o ownership) {
	if p := c.record.Principal; p != nil {
		o = ownership{p.Owner, c.record.Created.UnixMilli(), c.revocations}
	}
	return o
}

// ownership returns what is known of a session. changed says that its bucket's revocations have
// changed since they were last read.
func (n *nearCache) ownership(id driver.ID) (o ownership, changed bool) {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.copies[id]; c != nil {
		o = c.ownership()
	} else {
		o = s.known[id]
	}
	return o, o != (ownership{}) && o.revocations != n.revocations[id.Bucket].Load()
}

// confirm notes that the revocations of its bucket, at this count of changes, do not concern a
// session.
func (n *nearCache) confirm(id driver.ID, revocations uint32) {
	s := n.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.copies[id]; c != nil {
		c.revocations = revocations
	}
}

// loadUnconfirmed decides about a session of which nothing may be served because the revocations of
// its bucket have changed. It returns the error for a session that was revoked, and else the copy,
// if there is one that may be served now. asked reports that the server was asked.
//
// It needs no copy to say that a session was revoked: the removal of a revoked session drops the
// copy, often before this process has read the revocation.
func (s *Store) loadUnconfirmed(ctx context.Context, id driver.ID) (r *driver.Record, asked bool, err error) {
	o, changed := s.near.ownership(id)
	if !changed {
		return nil, false, nil
	}
	at, asked, err := s.readRevocations(ctx, id, o)
	if err == nil && !at.IsZero() {
		err = endedSince(s.clock.now(), at)
	}
	if err != nil {
		return nil, asked, aboutSession(id, err)
	}
	return s.near.peek(id), asked, nil
}

// readRevocations returns when a session was revoked. If it was not, it confirms the copy and
// returns the zero time. asked reports that the server was asked.
func (s *Store) readRevocations(ctx context.Context, id driver.ID, o ownership) (at time.Time, asked bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout) // also while others ask
	defer cancel()
	b := s.near.reads.of(id.Bucket)
	if err := takeTurn(ctx, b.turn); err != nil {
		return at, false, err
	}
	defer func() { <-b.turn }()
	// What a revocation covers once, it covers for ever. So older values can say yes, but not no.
	at, err = userRevokedAt(id, o, b.values)
	changes := s.near.revocations[id.Bucket].Load()
	if err != nil || at.IsZero() && (!b.known || b.changes != changes) {
		var values map[string]string
		err = s.withRetry(ctx, place(id.Bucket), readOnly, func(ctx context.Context) (err error) {
			values, err = s.tracked.Do(ctx, s.tracked.B().Hgetall().Key(s.keys.revocations(id.Bucket)).Build()).AsStrMap()
			return err
		})
		if err != nil {
			return at, true, err
		}
		b.known, b.changes, b.values, asked = true, changes, values, true
		at, err = userRevokedAt(id, o, values)
	}
	if err == nil && at.IsZero() {
		s.near.confirm(id, changes)
	}
	return at, asked, err
}
