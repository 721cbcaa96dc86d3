package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// outage is how long the servers are silent. The length is part of the fault: it is longer than the
// client keeps a silent connection, so the store must also connect again.
const outage = 4 * time.Second

// TestSilentServerFailsOperationsInTime silences a server in three ways. Every operation fails
// within the timeout, and the store recovers.
func TestSilentServerFailsOperationsInTime(t *testing.T) {
	for _, how := range []string{"CLIENT PAUSE WRITE", "CLIENT PAUSE ALL", "SIGSTOP"} {
		t.Run(how, func(t *testing.T) {
			limitParallel(t)
			node := redistest.Start(t, redistest.Options{})
			s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
			l := startLoad(t, s, 16)
			l.mustRecover() // it has begun
			end := time.Now().Add(outage)
			if how == "SIGSTOP" {
				must(t, node.Pause())
			} else {
				_, err := node.Do("CLIENT", "PAUSE", strconv.FormatInt(outage.Milliseconds(), 10), strings.Fields(how)[2])
				must(t, err)
			}
			id, o := newSession()
			mustFailEveryOperation(t, s, id, o, how == "CLIENT PAUSE WRITE")
			if how == "SIGSTOP" {
				time.Sleep(time.Until(end))
				must(t, node.Resume())
			} else {
				_, err := node.Do("DEL", "none") // the server replies when the pause ends
				must(t, err)
			}
			l.mustRecover()
			l.mustCountExactly(false)
		})
	}
}

// mustFailEveryOperation checks that every operation fails within the timeout. Operations that may
// have changed something return ErrUnknown. With reads set, the server still answers reads.
func mustFailEveryOperation(t *testing.T, s *redisstore.Store, id driver.ID, o *driver.RecordSpec, reads bool) {
	t.Helper()
	ctx := t.Context()
	unknown := map[string]func() error{
		"Create": func() error { _, err := s.Create(ctx, id, o, &driver.Change{Verifier: o.Verifier}); return err },
		"Apply":  func() error { _, err := s.Apply(ctx, id, increment(o)); return err },
		"Touch":  func() error { return s.Touch(ctx, id, o.Verifier) },
		"End":    func() error { other, _ := newSession(); return s.End(ctx, other) },
	}
	var all sync.WaitGroup
	for name, do := range unknown {
		all.Go(func() {
			if err := within(t, time.Second, do); !errors.Is(err, driver.ErrUnknown) {
				t.Errorf("%s: %v, want ErrUnknown", name, err)
			}
		})
	}
	all.Go(func() {
		err := within(t, time.Second, func() error { _, _, err := s.LoadFresh(ctx, id); return err })
		if reads != errors.Is(err, driver.ErrNotFound) || errors.Is(err, driver.ErrUnknown) {
			t.Errorf("LoadFresh, while the server answers reads is %v: %v", reads, err)
		}
	})
	all.Wait()
}

// TestHungServerUnderManyRequestsDelaysFew sends more commands to a server that hangs than a
// connection holds. An operation that times out while it waits for room in a full connection must
// wait until the client gives the connection up. Those are few, and none waits longer: on a slow
// machine they are all that may run without a goroutine of their own. An operation that begins when
// the store already knows of the outage sends nothing, and says so. How much the processors delay
// everything, some contexts with the same timeout show.
func TestHungServerUnderManyRequestsDelaysFew(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	must(t, node.Pause())
	paused := time.Now()
	const operations, contextEvery, maxDirect = 4000, 20, 256 // redisstore's maxDirect
	took := make([]time.Duration, operations)
	var unknown atomic.Int64
	var contexts atomic.Int64 // the longest time until a context was done
	var all sync.WaitGroup
	for i := range operations {
		if i%contextEvery == 0 {
			all.Go(func() {
				watch := startStopwatch()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				<-ctx.Done()
				for done := int64(watch.elapsed()); ; {
					if old := contexts.Load(); done <= old || contexts.CompareAndSwap(old, done) {
						return
					}
				}
			})
		}
		all.Go(func() {
			begin, watch := time.Now(), startStopwatch()
			_, err := s.Apply(t.Context(), id, increment(o))
			took[i] = watch.elapsed()
			nothingSent := err != nil && strings.Contains(err.Error(), "redisstore: nothing was sent")
			known := nothingSent && strings.Contains(err.Error(), "because the server is down")
			if errors.Is(err, driver.ErrUnknown) {
				unknown.Add(1)
			} else if soon := begin.Sub(paused) < time.Second; err == nil || soon && (known || !nothingSent) {
				t.Errorf("Apply %v after the server hangs: %v, want ErrUnknown", begin.Sub(paused), err)
			}
		})
	}
	all.Wait()
	// An operation waits for a processor more often than a context.
	late, delay := 0, 3*(time.Duration(contexts.Load())-2*time.Second)
	for _, d := range took {
		if d > time.Second+slack+delay {
			late++
		}
		if d > 3*time.Second+slack+delay {
			t.Errorf("an operation took %v on a machine that adds up to %v", d, delay)
		}
	}
	if late > maxDirect {
		t.Errorf("%d of %d operations were late, want at most %d; the machine adds up to %v",
			late, operations, maxDirect, delay)
	}
	must(t, node.Resume())
	eventually(t, recovery, func() error { return s.Touch(t.Context(), id, o.Verifier) })
	r, _, err := s.LoadFresh(t.Context(), id)
	must(t, err)
	if n := counterOf(t, r); n > unknown.Load() {
		t.Errorf("%d changes were applied, but only %d may have been", n, unknown.Load())
	}
}

// TestKilledServerWithAOFLosesNoWrite kills and restarts a server under load. With "always", every
// acknowledged write is on the disk. With "everysec", it is at least in the file, unless the disk
// is slow. So the end of the process loses nothing.
func TestKilledServerWithAOFLosesNoWrite(t *testing.T) {
	for _, fsync := range []string{"always", "everysec"} {
		t.Run(fsync, func(t *testing.T) {
			limitParallel(t)
			node := redistest.Start(t, redistest.Options{Config: []string{"appendonly yes", "appendfsync " + fsync}})
			l := startLoad(t, mustOpen(t, "redis://"+node.Addr(), redisstore.Options{}), 16)
			for range 3 {
				time.Sleep(300 * time.Millisecond)
				if fsync == "everysec" {
					// While a slow fsync runs, Redis delays its writes to the file for up to 2s,
					// but still replies. It does not do so when it never calls fsync.
					_, err := node.Do("CONFIG", "SET", "appendfsync", "no")
					must(t, err)
				}
				must(t, node.Kill())
				must(t, node.Restart())
				l.mustRecover()
			}
			l.mustCountExactly(false)
		})
	}
}

// TestStoreWorksAfterServerLostEverything restarts a server without persistence. Visitors become
// anonymous, and everything else works.
func TestStoreWorksAfterServerLostEverything(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	for range 2 { // the near cache serves the second read
		_, _, err := s.Load(t.Context(), id)
		must(t, err)
	}
	must(t, node.Restart())
	eventually(t, recovery, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load: %v, want ErrNotFound", err)
		}
		return nil
	})
	eventually(t, recovery, func() error { // the store's other connection may be lost, too
		if _, err := s.Apply(t.Context(), id, increment(o)); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Apply: %v, want ErrNotFound", err)
		}
		return nil
	})
	// The server has lost the scripts and the tracking table. The store restores both.
	id, o = newSession()
	mustCreate(t, s, id, o)
	_, err := s.Apply(t.Context(), id, increment(o))
	must(t, err)
	_, _, err = s.Load(t.Context(), id)
	must(t, err)
	other := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	_, err = other.Apply(t.Context(), id, increment(o))
	must(t, err)
	eventually(t, time.Second, func() error {
		r, _, err := s.Load(t.Context(), id)
		if err == nil && counterOf(t, r) != 2 {
			err = fmt.Errorf("the counter is %d, want 2 after another store's change", counterOf(t, r))
		}
		return err
	})
}
