package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestSilentServerFailsOperationsInTime lets a server answer nothing for four seconds, in the ways that there are.
func TestSilentServerFailsOperationsInTime(t *testing.T) {
	for _, how := range []string{"CLIENT PAUSE WRITE", "CLIENT PAUSE ALL", "SIGSTOP"} {
		t.Run(how, func(t *testing.T) {
			limitParallel(t)
			node := redistest.Start(t, redistest.Options{})
			s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
			l := startLoad(t, s, 16)
			time.Sleep(200 * time.Millisecond)
			end := time.Now().Add(4 * time.Second) // longer than the client believes in a connection
			if how == "SIGSTOP" {
				must(t, node.Pause())
			} else {
				_, err := node.Do("CLIENT", "PAUSE", "4000", strings.Fields(how)[2])
				must(t, err)
			}
			id, o := newSession()
			mustFailEveryOperation(t, s, id, o, how == "CLIENT PAUSE WRITE")
			time.Sleep(time.Until(end))
			if how == "SIGSTOP" {
				must(t, node.Resume())
			}
			l.mustRecover(end)
			l.mustCountExactly(false)
		})
	}
}

// mustFailEveryOperation checks that each fails within the timeout, and says whether something may have changed.
func mustFailEveryOperation(t *testing.T, s *redisstore.Store, id driver.ID, o *driver.Origin, reads bool) {
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
			t.Errorf("LoadFresh: %v", err)
		}
	})
	all.Wait()
}

// TestHungServerUnderManyRequestsDelaysFew stops a server while more commands are sent to it than a connection holds. An operation that is interrupted on its
// way to the connection may find it full, and waits for the client to give the connection up: see patience. None waits longer.
func TestHungServerUnderManyRequestsDelaysFew(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	must(t, node.Pause())
	var all sync.WaitGroup
	var late atomic.Int64
	for range 4000 {
		all.Go(func() {
			begin := time.Now()
			err := within(t, 3*time.Second, func() error { _, err := s.Apply(t.Context(), id, increment(o)); return err })
			if time.Since(begin) > time.Second+slack {
				late.Add(1)
			}
			if !errors.Is(err, driver.ErrUnknown) {
				t.Errorf("%v, want ErrUnknown", err)
			}
		})
	}
	all.Wait()
	if n := late.Load(); n > 40 {
		t.Errorf("%d of 4000 operations were late, want 40 at most", n)
	}
	must(t, node.Resume())
	eventually(t, recovery, func() error { _, err := s.Apply(t.Context(), id, increment(o)); return err })
}

// TestKilledServerWithAOFLosesNoWrite kills a server under load and starts it again. Under "always" every acknowledged write is on the disk. Under
// "everysec" it is in the file, though perhaps not on the disk: the death of the process loses nothing, only that of the machine does.
func TestKilledServerWithAOFLosesNoWrite(t *testing.T) {
	for _, fsync := range []string{"always", "everysec"} {
		t.Run(fsync, func(t *testing.T) {
			limitParallel(t)
			node := redistest.Start(t, redistest.Options{Config: []string{"appendonly yes", "appendfsync " + fsync}})
			l := startLoad(t, mustOpen(t, "redis://"+node.Addr(), redisstore.Options{}), 16)
			for range 3 {
				time.Sleep(300 * time.Millisecond)
				must(t, node.Kill())
				must(t, node.Restart())
				l.mustRecover(time.Now())
			}
			l.mustCountExactly(false)
		})
	}
}

// TestStoreWorksAfterServerLostEverything restarts a server that keeps nothing: visitors are anonymous, and nothing else breaks.
func TestStoreWorksAfterServerLostEverything(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	for range 2 { // the second is served from the copy
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
	// The server has neither the scripts nor a tracking table any more. Both come back.
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
			err = fmt.Errorf("the counter is %d, another store made it 2", counterOf(t, r))
		}
		return err
	})
}
