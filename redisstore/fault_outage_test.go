package redisstore_test

import (
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
			time.Sleep(200 * time.Millisecond)
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
			l.mustRecover(end)
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
// wait until the client gives the connection up. Those are few, and none waits longer. An operation
// that begins when the store already knows of the outage sends nothing, and says so.
func TestHungServerUnderManyRequestsDelaysFew(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	must(t, node.Pause())
	paused := time.Now()
	var all sync.WaitGroup
	var late atomic.Int64
	for range 4000 {
		all.Go(func() {
			begin := time.Now()
			err := within(t, 3*time.Second, func() error { _, err := s.Apply(t.Context(), id, increment(o)); return err })
			if time.Since(begin) > time.Second+slack {
				late.Add(1)
			}
			known := err != nil && strings.Contains(err.Error(), "nothing was sent, because the server is down")
			if !errors.Is(err, driver.ErrUnknown) && (!known || begin.Sub(paused) < time.Second) {
				t.Errorf("Apply %v after the server hangs: %v, want ErrUnknown", begin.Sub(paused), err)
			}
		})
	}
	all.Wait()
	if n := late.Load(); n > 40 {
		t.Errorf("%d of 4000 operations were late, want at most 40", n)
	}
	must(t, node.Resume())
	eventually(t, recovery, func() error { _, err := s.Apply(t.Context(), id, increment(o)); return err })
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
				// With "everysec" Redis delays its writes to the file while a slow fsync runs, for
				// up to 2s, but still replies. So kill it between two calls of fsync.
				eventually(t, 10*time.Second, func() error {
					if n := infoNumber(t, node, "persistence", `aof_pending_bio_fsync:(\d+)`); n > 0 {
						return fmt.Errorf("%d fsync calls are pending", n)
					}
					return nil
				})
				must(t, node.Kill())
				must(t, node.Restart())
				l.mustRecover(time.Now())
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
	if _, err := s.Apply(t.Context(), id, increment(o)); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Apply: %v, want ErrNotFound", err)
	}
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
