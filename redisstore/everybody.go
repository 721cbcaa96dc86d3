package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// everybody is the time at which everybody's sessions were ended last, which all nodes follow: what was created until then is no session,
// whether its key was deleted yet or not. It stands in a key of its own, in any slot, so scripts are told what their node knows.
//
// A node with a near cache reads the key on its tracked connection, and hears when it changes; then it reads it before anything else.
// Each checkup reads it, too: that is how other nodes learn, and it puts a value back that a failover lost.
type everybody struct {
	at     atomic.Int64  // milliseconds since 1970, 0: never. The latest that this node has heard of; it does not go back
	told   atomic.Uint64 // how often the server said that the key changed
	heard  atomic.Uint64 // told, when the last reading began
	behind atomic.Bool   // the key says less than this node knows
	back   atomic.Bool   // it is being put back

	mu      sync.Mutex
	reading *sharedReading // nil: nobody reads for those who wait
}

// sharedReading is one reading of the key for all who wait for it.
type sharedReading struct {
	done chan struct{}
	err  error // once done is closed
}

// covers reports whether a session was ended with everybody's.
func (e *everybody) covers(r *driver.Record) bool { return r.Created.UnixMilli() <= e.at.Load() }

// current reports that the server has not said that the key changed since it was read.
func (e *everybody) current() bool { return e.told.Load() == e.heard.Load() }

// learn notes a time, and reports whether a later one is known.
func (e *everybody) learn(at int64) (later bool) {
	for {
		old := e.at.Load()
		if old >= at {
			return old > at
		}
		if e.at.CompareAndSwap(old, at) {
			return false
		}
	}
}

func (e *everybody) argument() string { return strconv.FormatInt(e.at.Load(), 10) }

// upToDate returns when this node knows all that the server has told it of by now. Those who wait do so together: one after the other, all but the
// first would wait for longer than an operation may take.
func (s *Store) upToDate(ctx context.Context) error {
	for told := s.all.told.Load(); s.all.heard.Load() < told; {
		r := s.readTogether()
		select {
		case <-r.done:
			if r.err != nil {
				return r.err
			}
		case <-ctx.Done():
			return fmt.Errorf("redisstore: it is not known whether everybody was signed out: %w", ctx.Err())
		}
	}
	return nil
}

// readTogether returns the reading under way, or begins one.
func (s *Store) readTogether() *sharedReading {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	if s.all.reading == nil {
		r := &sharedReading{done: make(chan struct{})}
		s.all.reading = r
		go func() { // it takes Options.Timeout at most, whoever of those who wait hangs up
			r.err = s.attempt(context.Background(), reading, s.readEverybody)
			s.all.mu.Lock()
			s.all.reading = nil
			s.all.mu.Unlock()
			close(r.done)
		}()
	}
	return s.all.reading
}

// readEverybody reads the key, and notes whether its value is behind what this node has heard of: a failover has lost that.
func (s *Store) readEverybody(ctx context.Context) error {
	told := s.all.told.Load()
	at, err := s.tracked.Do(ctx, s.tracked.B().Get().Key(s.keys.all()).Build()).AsInt64()
	if err != nil && !rueidis.IsRedisNil(err) {
		return err
	}
	s.all.behind.Store(s.all.learn(at))
	for {
		old := s.all.heard.Load()
		if old >= told || s.all.heard.CompareAndSwap(old, told) {
			return nil
		}
	}
}

// putBack writes the time that a failover lost. It is not waited for: this node knows the time, and serves though the server takes no writes. The
// next checkup finds out whether it was done.
func (s *Store) putBack(ctx context.Context) {
	if !s.all.behind.Load() || s.all.back.Swap(true) {
		return
	}
	s.work.Go(func() {
		defer s.all.back.Store(false)
		ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
		defer cancel()
		_, _ = s.revokeEverybody(ctx, s.all.argument())
	})
}

// revokeEverybody raises the time to at, "" for that of the key's server, and returns it.
func (s *Store) revokeEverybody(ctx context.Context, at string) (int64, error) {
	r, err := s.execKeys(ctx, revokeAllScript, []string{s.keys.all()}, []string{at})
	if err != nil {
		return 0, err
	}
	if r.status != "ok" || len(r.rest) != 1 {
		return 0, errReply
	}
	n, err := r.rest[0].AsInt64()
	if err != nil {
		return 0, errReply
	}
	s.all.learn(n)
	return n, nil
}

// maxSkew bounds what a server whose clock is ahead does to the time of a revocation.
const maxSkew = time.Minute

// EndAll implements driver.UserStore: for an incident. It notes the time, from which on all nodes refuse what was created until then, and
// removes the sessions on every primary, a batch at a time. Interrupted, it can be called again; two at a time do no harm.
//
// The sessions' times are those of their own servers. So the time is that of the server that is ahead, within a minute, and it is noted
// twice: the servers are asked once no sign-in can miss it any more.
func (s *Store) EndAll(ctx context.Context) error {
	var first int64
	note := func(at string) error {
		return s.attempt(ctx, repeatable, func(ctx context.Context) (err error) {
			n, err := s.revokeEverybody(ctx, at)
			if err != nil {
				s.all.told.Add(1) // it may have been done, and the server does not tell of what this node did itself
			}
			first = max(first, n)
			return err
		})
	}
	if err := note(""); err != nil {
		return err
	}
	primaries, ahead, away := s.primaries(ctx)
	latest := min(ahead, first+maxSkew.Milliseconds())
	if latest > first {
		if err := note(strconv.FormatInt(latest, 10)); err != nil {
			return err
		}
	}
	few := s.everybodyOnReplicas(ctx, max(first, latest)) // the sessions are removed all the same
	for addr, node := range primaries {
		if err := s.endNode(ctx, node); err != nil {
			away = errors.Join(away, fmt.Errorf("%s: %w", addr, err))
		}
	}
	if away != nil {
		return fmt.Errorf("redisstore: nobody is signed in any more, but not all sessions are removed, call again: %w", errors.Join(away, few))
	}
	return few
}

// everybodyOnReplicas waits for replicas, if Options.Replicas asks for it. What is waited for is a write, so the time is written once more.
func (s *Store) everybodyOnReplicas(ctx context.Context, at int64) error {
	return s.waitAfter(ctx, func(b rueidis.Builder) rueidis.Completed {
		return b.Eval().Script(everybodyAgainSource).Numkeys(1).Key(s.keys.all()).Arg(strconv.FormatInt(at, 10)).Build()
	})
}

const everybodyAgainSource = `
local at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), tonumber(ARGV[1]))
redis.call('DEL', KEYS[1]) -- first: see revokeall.lua
return redis.call('SET', KEYS[1], at .. '')`

// primaries returns those that answer, the latest of their times in milliseconds, and what is known of others.
func (s *Store) primaries(ctx context.Context) (found map[string]rueidis.Client, latest int64, away error) {
	found = map[string]rueidis.Client{}
	for addr, node := range s.plain.Nodes() {
		var v vitals
		err := s.attempt(ctx, reading, func(ctx context.Context) error {
			v = s.examine(ctx, addr, node)
			return v.err
		})
		switch {
		case err != nil && s.ends.wasReplica(addr):
		case err != nil:
			away = errors.Join(away, fmt.Errorf("%s: %w", addr, err))
		case v.primary:
			found[addr] = node
			latest = max(latest, v.time.UnixMilli())
		}
	}
	return found, latest, away
}

// endNode removes the sessions that one primary has and that were ended with everybody's.
func (s *Store) endNode(ctx context.Context, node rueidis.Client) error {
	for cursor := uint64(0); ; {
		var page rueidis.ScanEntry
		err := s.attempt(ctx, reading, func(ctx context.Context) (err error) {
			page, err = node.Do(ctx, node.B().Scan().Cursor(cursor).Match(s.keys.prefix+"*"+keyMiddle+"*").Count(1000).Build()).AsScanEntry()
			return err
		})
		if err != nil {
			return err
		}
		if err := s.attempt(ctx, repeatable, func(ctx context.Context) error { return s.endKeys(ctx, page.Elements) }); err != nil {
			return err
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// endKeys removes those of the sessions among keys that were ended with everybody's.
func (s *Store) endKeys(ctx context.Context, keys []string) error {
	var gets, dels []rueidis.Completed
	var ids []driver.ID
	for _, key := range keys {
		if id, ok := s.keys.parse(key); ok {
			ids = append(ids, id)
			gets = append(gets, s.plain.B().Hget().Key(key).Field("@created").Build())
		}
	}
	for i, res := range s.plain.DoMulti(ctx, gets...) {
		created, err := res.AsInt64()
		if rueidis.IsRedisNil(err) {
			continue // only word that it moved, or gone by now
		}
		if err != nil {
			return err
		}
		if created <= s.all.at.Load() {
			s.forget(ids[i])
			dels = append(dels, s.tracked.B().Del().Key(s.keys.session(ids[i])).Build())
		}
	}
	for _, res := range s.tracked.DoMulti(ctx, dels...) {
		if err := res.Error(); err != nil {
			return err
		}
	}
	return nil
}

// revokedAll returns when everybody's sessions were ended, in milliseconds; 0: never.
func (s *Store) revokedAll(ctx context.Context) (int64, error) {
	err := s.attempt(ctx, reading, s.readEverybody)
	return s.all.at.Load(), err
}

// refusedByAll refuses a sign-in whose authentication began before everybody's sessions were ended.
func (s *Store) refusedByAll(ctx context.Context, began int64) error {
	at, err := s.revokedAll(ctx)
	if err == nil && began <= at {
		err = driver.ErrRevoked
	}
	return err
}
