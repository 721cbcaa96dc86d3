package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// globalRevocation is the time of the last EndAll. A session that was created until then is ended,
// even if its key is still there. All nodes follow the time. It is stored in a key of its own slot,
// so scripts cannot read it: each call passes what its node knows.
//
// A node with a near cache reads the key on its tracked connection. When the key changes, the node
// gets an invalidation, and reads the key again before it serves anything. Each health check reads
// the key, too: that is how nodes without a near cache learn of a change, and how every node
// notices that a failover lost the key.
type globalRevocation struct {
	at            atomic.Int64  // the latest known time, in milliseconds; 0: never
	invalidations atomic.Uint64 // of the key
	read          atomic.Uint64 // invalidations when the last finished read was sent
	lost          atomic.Bool   // the key holds an older time than at, and has to be raised
	raised        func()        // called after at was raised; nil: nobody watches
	turn          chan struct{} // holds a value while syncGlobalRevocation reads the key
}

// covers reports whether EndAll ended a session.
func (g *globalRevocation) covers(r *driver.Record) bool { return r.Created.UnixMilli() <= g.at.Load() }

// time returns the time of the last EndAll, or the zero time.
func (g *globalRevocation) time() (at time.Time) {
	if ms := g.at.Load(); ms > 0 {
		at = time.UnixMilli(ms)
	}
	return at
}

// check returns driver.ErrRevoked if an authentication began before the revocation.
func (g *globalRevocation) check(began int64) error {
	if began <= g.at.Load() {
		return driver.ErrRevoked
	}
	return nil
}

// current reports that no invalidation has arrived since the key was read.
func (g *globalRevocation) current() bool { return g.read.Load() >= g.invalidations.Load() }

// learn notes a time from the key, and reports whether a later one is known.
func (g *globalRevocation) learn(at int64) (later bool) {
	for {
		old := g.at.Load()
		if old >= at {
			return old > at
		}
		if g.at.CompareAndSwap(old, at) {
			if g.raised != nil {
				g.raised()
			}
			return false
		}
	}
}

// argument is the time as scripts take it.
func (g *globalRevocation) argument() string { return strconv.FormatInt(g.at.Load(), 10) }

// syncGlobalRevocation reads the time if an invalidation has arrived. One operation reads it for
// all that wait: after RevokeAll, these are all open responses.
func (s *Store) syncGlobalRevocation(ctx context.Context) error {
	if s.global.current() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	if err := takeTurn(ctx, s.global.turn); err != nil {
		return err
	}
	defer func() { <-s.global.turn }()
	if s.global.current() {
		return nil
	}
	return s.withRetry(ctx, globalPlace, readOnly, s.readGlobalRevocation)
}

// takeTurn waits for a turn, which is over when the caller receives from turn.
func takeTurn(ctx context.Context, turn chan struct{}) error {
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("redisstore: nothing was sent: %w", ctx.Err())
	}
}

// syncRevocation is syncGlobalRevocation for an operation on one record.
func (s *Store) syncRevocation(ctx context.Context, id driver.ID) error {
	if id.UserData {
		return nil
	}
	return s.syncGlobalRevocation(ctx)
}

// readGlobalRevocation reads the time, and notes whether a failover has lost it.
func (s *Store) readGlobalRevocation(ctx context.Context) error {
	invalidations := s.global.invalidations.Load()
	err := s.learnGlobalRevocation(s.tracked.Do(ctx, s.tracked.B().Get().Key(s.keys.globalRevocation()).Build()))
	if err != nil {
		return err
	}
	for {
		old := s.global.read.Load()
		if old >= invalidations || s.global.read.CompareAndSwap(old, invalidations) {
			return nil
		}
	}
}

// learnGlobalRevocation notes the time in a reply to GET, and whether a failover has lost it. A
// time that is malformed is lost, too. It is an error as well: it may be later than any that is
// known.
func (s *Store) learnGlobalRevocation(res rueidis.RedisResult) error {
	text, err := res.ToString()
	if rueidis.IsRedisNil(err) {
		s.global.lost.Store(s.global.learn(0))
		return nil
	}
	if err != nil {
		return err
	}
	at, ok := parseTime(text)
	s.global.lost.Store(s.global.learn(at))
	if !ok {
		return fmt.Errorf("redisstore: the key %s has %.40q: %w", s.keys.globalRevocation(), text, driver.ErrFormat)
	}
	return nil
}

// checkGlobalRevocation reads the time, and returns driver.ErrRevoked if an authentication began
// before it.
func (s *Store) checkGlobalRevocation(ctx context.Context, began int64) error {
	if err := s.withRetry(ctx, globalPlace, readOnly, s.readGlobalRevocation); err != nil {
		return err
	}
	return s.global.check(began)
}

// raiseGlobalRevocation raises the stored time to at, or to the server's time if at is "". It
// returns the time that is stored then. With write, the script writes in any case.
func (s *Store) raiseGlobalRevocation(ctx context.Context, at string, write bool) (int64, error) {
	r, err := s.exec(ctx, s.tracked, revokeAllScript, []string{s.keys.globalRevocation()}, []string{at, digit(write)})
	if err != nil {
		return 0, err
	}
	if r.status != "ok" {
		return 0, r.failure("the revocation of all users")
	}
	n, err := r.integer(0)
	if err != nil {
		return 0, err
	}
	s.global.lost.Store(s.global.learn(n))
	return n, nil
}

// digit is a bool as scripts take it.
func digit(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}
