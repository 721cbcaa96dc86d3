package redisstore_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestPaused lets a server answer nothing for four seconds, in the ways that there are.
func TestPaused(t *testing.T) {
	for _, how := range []string{"CLIENT PAUSE WRITE", "CLIENT PAUSE ALL", "SIGSTOP"} {
		t.Run(how, func(t *testing.T) {
			few(t)
			node := redistest.Start(t, redistest.Options{})
			s := open(t, "redis://"+node.Addr(), redisstore.Options{})
			l := startLoad(t, s, 16)
			time.Sleep(200 * time.Millisecond)
			end := time.Now().Add(4 * time.Second) // longer than the client believes in a connection
			if how == "SIGSTOP" {
				ok(t, node.Pause())
			} else {
				_, err := node.Do("CLIENT", "PAUSE", "4000", strings.Fields(how)[2])
				ok(t, err)
			}
			id, o := fresh()
			everyOperation(t, s, id, o, how == "CLIENT PAUSE WRITE")
			time.Sleep(time.Until(end))
			if how == "SIGSTOP" {
				ok(t, node.Resume())
			}
			l.recovers(end)
			l.exact(false)
		})
	}
}

// everyOperation checks that each fails within the timeout, and says whether something may have changed.
func everyOperation(t *testing.T, s *redisstore.Store, id driver.ID, o *driver.RecordSpec, reads bool) {
	t.Helper()
	ctx := t.Context()
	unknown := map[string]func() error{
		"Create": func() error { _, err := s.Create(ctx, id, o, &driver.Change{Verifier: o.Verifier}); return err },
		"Apply":  func() error { _, err := s.Apply(ctx, id, add1(o)); return err },
		"Touch":  func() error { return s.Touch(ctx, id, o.Verifier) },
		"End":    func() error { other, _ := fresh(); return s.End(ctx, other) },
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

// TestHungUnderManyRequests stops a server while more commands are sent to it than a connection holds. An operation that is interrupted on its
// way to the connection may find it full, and waits for the client to give the connection up: see patience. None waits longer.
func TestHungUnderManyRequests(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := fresh()
	create(t, s, id, o)
	ok(t, node.Pause())
	var all sync.WaitGroup
	var late atomic.Int64
	for range 4000 {
		all.Go(func() {
			begin := time.Now()
			err := within(t, 3*time.Second, func() error { _, err := s.Apply(t.Context(), id, add1(o)); return err })
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
	ok(t, node.Resume())
	eventually(t, recovery, func() error { _, err := s.Apply(t.Context(), id, add1(o)); return err })
}
