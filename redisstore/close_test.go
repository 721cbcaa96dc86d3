package redisstore_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// goroutines returns the stacks of those that run code of the store or of its client, and not of tests.
func goroutines() (stacks []string) {
	buffer := make([]byte, 4<<20)
	for _, stack := range strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		of := strings.Contains(stack, "redisstore.(*") || strings.Contains(stack, "redis/rueidis.")
		if of && !strings.Contains(stack, "redisstore_test.") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// TestCloseLeavesNothing opens and closes stores in all states: no goroutine stays, and no connection. It runs alone, so that all
// goroutines are its own.
func TestCloseLeavesNothing(t *testing.T) {
	sentinels, nodes := startSentinel(t), startCluster(t)
	node := redistest.Start(t, redistest.Options{})
	nothing := func(t *testing.T) {
		t.Helper()
		eventually(t, 8*time.Second, func() error { // the client keeps connections of nodes that left a Cluster for 5s
			if left := goroutines(); len(left) > 0 {
				return fmt.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
			}
			return nil
		})
	}
	nothing(t)
	for _, address := range []string{"redis://" + node.Addr(), sentinels.url, nodes.url} {
		s, err := redisstore.Open(t.Context(), address, redisstore.Options{})
		ok(t, err)
		uses(t, s)
		for range 3 {
			ok(t, s.Close())
		}
		nothing(t)
	}
	for _, o := range []redisstore.Options{{Namespace: "/"}, {Replicas: 1, Fsync: true}} {
		if _, err := redisstore.Open(t.Context(), "redis://"+node.Addr(), o); err == nil {
			t.Fatal("it opens")
		}
		nothing(t)
	}
	if n := connections(t, node); n > 0 {
		t.Errorf("%d connections are left", n)
	}
	closeWhileHung(t, node)
	nothing(t)
	closeWhileBusy(t, node)
	nothing(t)
}

// closeWhileBusy closes a store that waits for a server with all of its own work: sessions to look at that are about to expire, events to publish
// and to follow, a user's and everybody's revocation to repeat, ends.
func closeWhileBusy(t *testing.T, node *redistest.Node) {
	t.Helper()
	s, err := redisstore.Open(t.Context(), "redis://"+node.Addr(), redisstore.Options{Timeout: time.Minute, Events: 100})
	ok(t, err)
	s.OnExpiry(func(driver.ExpiredSession) {})
	events, err := s.Follow(t.Context())
	ok(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for range events {
		}
	})
	shortly(t, s, "ada", 300*time.Millisecond)
	_, err = s.EndUser(t.Context(), ownerOf("bob"), driver.Selection{})
	ok(t, err)
	ok(t, node.Pause())
	for range 5000 {
		s.Publish([]byte("event"))
	}
	id, o := fresh()
	for _, call := range []func() error{
		func() error { return s.EndAll(t.Context()) },
		func() error { return s.End(t.Context(), id) },
		func() error { _, err := s.EndUser(t.Context(), ownerOf("eve"), driver.Selection{}); return err },
		func() error { _, _, err := s.Load(t.Context(), id); return err },
		func() error { return s.Touch(t.Context(), id, o.Verifier) },
	} {
		all.Go(func() {
			if err := call(); err == nil {
				t.Error("a call succeeds while the server stands still")
			}
		})
	}
	time.Sleep(1500 * time.Millisecond) // they are due
	ok(t, within(t, 5*time.Second, s.Close))
	all.Wait()
	ok(t, node.Resume())
}

// closeWhileHung closes a store that waits for a server: operations under way end, and those that may have run say so.
func closeWhileHung(t *testing.T, node *redistest.Node) {
	t.Helper()
	s, err := redisstore.Open(t.Context(), "redis://"+node.Addr(), redisstore.Options{Timeout: time.Minute})
	ok(t, err)
	id, o := fresh()
	create(t, s, id, o)
	ok(t, node.Pause())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := s.Apply(t.Context(), id, add1(o))
			if !errors.Is(err, driver.ErrUnknown) {
				t.Errorf("a change that was under way: %v, want ErrUnknown", err)
			}
			if _, err := s.Apply(t.Context(), id, add1(o)); !errors.Is(err, redisstore.ErrClosed) || errors.Is(err, driver.ErrUnknown) {
				t.Errorf("a change after Close: %v, want ErrClosed alone", err)
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	ok(t, within(t, 5*time.Second, s.Close))
	all.Wait()
	ok(t, node.Resume())
}

// connections is how many clients the server has, this question not counted.
func connections(t *testing.T, n *redistest.Node) int {
	t.Helper()
	list, err := n.Do("CLIENT", "LIST")
	ok(t, err)
	return strings.Count(list.(string), "name=coatcheck")
}
