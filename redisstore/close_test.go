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

// goroutines returns the stacks of the goroutines that run code of the store or of its client, but
// no test.
func goroutines() (stacks []string) {
	buffer := make([]byte, 4<<20)
	for _, stack := range strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		matches := strings.Contains(stack, "redisstore.(*") || strings.Contains(stack, "redis/rueidis.")
		if matches && !strings.Contains(stack, "redisstore_test.") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// TestCloseLeavesNoGoroutineOrConnection closes stores in all states. The test is not parallel, so
// that all goroutines are its own.
func TestCloseLeavesNoGoroutineOrConnection(t *testing.T) {
	sentinels, nodes := startSentinel(t), startCluster(t)
	node := redistest.Start(t, redistest.Options{})
	mustLeaveNothing := func(t *testing.T) {
		t.Helper()
		// The client keeps the connections to nodes that left a Cluster for 5s.
		eventually(t, anytime, func() error {
			if left := goroutines(); len(left) > 0 {
				return fmt.Errorf("%d goroutines still run:\n%s", len(left), strings.Join(left, "\n\n"))
			}
			return nil
		})
	}
	mustLeaveNothing(t)
	for _, address := range []string{"redis://" + node.Addr(), sentinels.url, nodes.url} {
		s, err := redisstore.Open(t.Context(), address, redisstore.Options{})
		must(t, err)
		mustUse(t, s)
		for range 3 {
			must(t, s.Close())
		}
		mustLeaveNothing(t)
	}
	for _, o := range []redisstore.Options{{Namespace: "/"}, {Replicas: 1, Fsync: true}} {
		if _, err := redisstore.Open(t.Context(), "redis://"+node.Addr(), o); err == nil {
			t.Fatalf("Open succeeds with %+v, want an error", o)
		}
		mustLeaveNothing(t)
	}
	eventually(t, anytime, func() error { // the server notices it later
		if n := connections(t, node); n > 0 {
			return fmt.Errorf("%d connections are still open", n)
		}
		return nil
	})
	closeDuringOperations(t, node)
	mustLeaveNothing(t)
	closeDuringBackgroundWork(t, node)
	mustLeaveNothing(t)
}

// closeDuringBackgroundWork closes a store while all of its work waits for a server that hangs:
// sessions to check for expiry, events to publish and to follow, a user's revocation to repeat, and
// operations in flight.
func closeDuringBackgroundWork(t *testing.T, node *redistest.Node) {
	t.Helper()
	p := startProxy(t, node.Addr())
	s, err := redisstore.Open(t.Context(), "redis://"+p.Addr(), redisstore.Options{Timeout: time.Minute, Events: 100})
	must(t, err)
	s.OnExpiry(func(driver.ExpiredSession) {})
	events, err := s.Follow(t.Context())
	must(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for range events {
		}
	})
	expiring, _ := mustSignInFor(t, s, "ada", 300*time.Millisecond)
	_, err = s.EndUser(t.Context(), ownerOf("bob"), driver.Selection{})
	must(t, err)
	must(t, node.Pause())
	p.recordCommands()
	for range 5000 {
		s.Publish([]byte("event"))
	}
	id, o := newSession()
	for _, call := range []func() error{
		func() error { return s.EndAll(t.Context()) },
		func() error { return s.End(t.Context(), id) },
		func() error { _, err := s.EndUser(t.Context(), ownerOf("eve"), driver.Selection{}); return err },
		func() error { _, _, err := s.Load(t.Context(), id); return err },
		func() error { return s.Touch(t.Context(), id, o.Verifier) },
	} {
		all.Go(func() {
			if err := call(); err == nil {
				t.Error("a call succeeds while the server hangs")
			}
		})
	}
	eventually(t, 5*time.Second, func() error {
		for work, command := range map[string][]string{
			"the expired session": {"PTTL", sessionKey(expiring)},
			// Either of an end or of bob's revocation. The store repeats one at a time.
			"a repetition":         {"EVALSHA", "again"},
			"the published events": {"EVALSHA", "coatcheck:events"},
			"EndAll":               {"EVALSHA", "coatcheck:revoked"},
			"End":                  {sessionKey(id)},
			"EndUser":              {ownerOf("eve").String()},
		} {
			// When the client gives up the silent connection, the work waits for a new one.
			if !p.hasSent(command...) && !p.hasSent("HELLO") {
				return fmt.Errorf("the store has sent no command for %s", work)
			}
		}
		return nil
	})
	must(t, within(t, 5*time.Second, s.Close))
	all.Wait()
	must(t, node.Resume())
}

// closeDuringOperations closes a store while operations wait for a server that hangs. The
// operations end. Those that may have run return ErrUnknown.
func closeDuringOperations(t *testing.T, node *redistest.Node) {
	t.Helper()
	const changes = 20
	p := startProxy(t, node.Addr())
	s, err := redisstore.Open(t.Context(), "redis://"+p.Addr(), calm)
	must(t, err)
	id, o := newSession()
	mustCreate(t, s, id, o)
	must(t, node.Pause())
	p.recordCommands()
	var all sync.WaitGroup
	for range changes {
		all.Go(func() {
			_, err := s.Apply(t.Context(), id, increment(o))
			if !errors.Is(err, driver.ErrUnknown) {
				t.Errorf("a change in flight: %v, want ErrUnknown", err)
			}
			_, err = s.Apply(t.Context(), id, increment(o))
			if !errors.Is(err, redisstore.ErrClosed) || errors.Is(err, driver.ErrUnknown) {
				t.Errorf("a change after Close: %v, want ErrClosed without ErrUnknown", err)
			}
		})
	}
	eventually(t, anytime, func() error {
		if n := p.sent("EVALSHA", sessionKey(id)); n < changes {
			return fmt.Errorf("%d of %d changes are in flight", n, changes)
		}
		return nil
	})
	must(t, within(t, 5*time.Second, s.Close))
	all.Wait()
	must(t, node.Resume())
}

// connections returns how many clients of the store are connected to the server.
func connections(t *testing.T, n *redistest.Node) int {
	t.Helper()
	list, err := n.Do("CLIENT", "LIST")
	must(t, err)
	return strings.Count(list.(string), "name=coatcheck")
}
