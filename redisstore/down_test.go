package redisstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

const (
	knownDown = 1500 * time.Millisecond // the store knows by then that a closed port is an outage
	atOnce    = 50 * time.Millisecond   // promised time of an operation during a known outage
)

// operations returns one operation of each kind on a session of a user.
func operations(t *testing.T, s *redisstore.Store, id driver.ID, verifier driver.Hash) map[string]func() error {
	ctx := t.Context()
	return map[string]func() error{
		"Load":  func() error { _, _, err := s.LoadFresh(ctx, id); return err },
		"Apply": func() error { _, err := s.Apply(ctx, id, incrementWith(verifier)); return err },
		"Touch": func() error { return s.Touch(ctx, id, verifier) },
		"Create": func() error {
			other, o := newSession()
			other.Bucket = id.Bucket
			_, err := s.Create(ctx, other, o, &driver.Change{Verifier: o.Verifier})
			return err
		},
		"End":      func() error { other, _ := newSession(); other.Bucket = id.Bucket; return s.End(ctx, other) },
		"Sessions": func() error { _, err := s.Sessions(ctx, ownerOf("ada"), driver.SessionCursor{}, 100); return err },
		"EndUser":  func() error { _, err := s.EndUser(ctx, ownerOf("ada"), driver.Selection{}); return err },
		"SignIn": func() error {
			id, in := newSignIn("ada", 0)
			_, err := s.SignIn(ctx, id, in)
			return err
		},
	}
}

// mustFailAtOnce checks that an operation fails at once, and that the error rules out any effect.
// One of three tries must be as fast as promised: other tests share the machine.
func mustFailAtOnce(t *testing.T, name string, do func() error) {
	t.Helper()
	fastest := time.Hour
	for range 3 {
		begin := time.Now()
		err := do()
		fastest = min(fastest, time.Since(begin))
		if err == nil || errors.Is(err, driver.ErrUnknown) {
			t.Errorf("%s during a known outage: %v, want an error that is not ErrUnknown", name, err)
		}
	}
	if fastest > atOnce {
		t.Errorf("%s during a known outage took %v, want at most %v", name, fastest, atOnce)
	}
}

// TestKnownOutageFailsOperationsAtOnce kills a server for a while. Operations fail at once after
// the first second, with an error that rules out any effect. They succeed within a second after the
// server is back.
func TestKnownOutageFailsOperationsAtOnce(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := mustSignIn(t, s, "ada")
	must(t, node.Kill())
	begin := time.Now()
	if err := s.Touch(t.Context(), id, verifier); err == nil || time.Since(begin) > knownDown {
		t.Errorf("Touch without a server: %v after %v, want an error within %v", err, time.Since(begin), knownDown)
	}
	time.Sleep(time.Until(begin.Add(knownDown)))
	for name, do := range operations(t, s, id, verifier) {
		mustFailAtOnce(t, name, do)
	}
	must(t, node.Restart())
	begin = time.Now()
	eventually(t, time.Second, func() error {
		id, o := newSession()
		_, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier})
		return err
	})
	t.Logf("the first write succeeded %v after the server was back", time.Since(begin))
}

// TestHungServerFailsOperationsAtOnce stops a server's process. Its port stays open and nothing
// replies. The store knows that after the timeout of one health check.
func TestHungServerFailsOperationsAtOnce(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := mustSignIn(t, s, "ada")
	must(t, node.Pause())
	time.Sleep(4 * time.Second)
	for name, do := range operations(t, s, id, verifier) {
		mustFailAtOnce(t, name, do)
	}
	must(t, node.Resume())
	eventually(t, time.Second, func() error { return s.Touch(t.Context(), id, verifier) })
}

// TestShortOutageFailsNoOperation restarts a server within a few hundred milliseconds. An operation
// that begins meanwhile waits and succeeds.
func TestShortOutageFailsNoOperation(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{Config: []string{"appendonly yes", "appendfsync always"}})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := mustSignIn(t, s, "ada")
	must(t, node.Kill())
	done := make(chan error, 1)
	go func() { done <- s.Touch(t.Context(), id, verifier) }()
	time.Sleep(200 * time.Millisecond)
	must(t, node.Restart())
	must(t, <-done)
}

// TestSlowReplyIsNoOutage pauses a server for less than an operation waits. Operations wait and
// succeed, during the pause and after it.
func TestSlowReplyIsNoOutage(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := mustSignIn(t, s, "ada")
	must(t, node.Pause())
	time.AfterFunc(1200*time.Millisecond, func() { node.Resume() })
	for range 20 {
		must(t, s.Touch(t.Context(), id, verifier))
		time.Sleep(20 * time.Millisecond)
	}
}

// TestRefusedWritesFailAtOnceAndReadsSucceed makes a server refuse writes, because it has too few
// replicas. Such writes are repeated at first, since the cause may pass. After a second they fail
// at once.
func TestRefusedWritesFailAtOnceAndReadsSucceed(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := mustSignIn(t, s, "ada")
	_, err := node.Do("CONFIG", "SET", "min-replicas-to-write", "1")
	must(t, err)
	all := operations(t, s, id, verifier)
	if err := all["Apply"](); err == nil {
		t.Error("Apply succeeded without replicas")
	}
	time.Sleep(knownDown)
	mustFailAtOnce(t, "Create", all["Create"])
	mustFailAtOnce(t, "Apply", all["Apply"])
	for range 3 {
		must(t, all["Load"]())
		must(t, all["Sessions"]())
	}
	_, err = node.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	must(t, err)
	eventually(t, time.Second, all["Apply"])
}

// TestOutageOfOnePrimaryIsItsOwn kills one primary of a Cluster with its replica. Operations on its
// sessions fail at once. Operations on the other primaries' sessions succeed.
func TestOutageOfOnePrimaryIsItsOwn(t *testing.T) {
	limitParallel(t)
	c := redistest.StartCluster(t, redistest.Options{Config: []string{"cluster-require-full-coverage no"}})
	s := mustOpen(t, clusterURL(c), redisstore.Options{})
	id, verifier := mustSignIn(t, s, "ada")
	down, err := c.NodeOfSlot(redistest.Slot(sessionKey(id)))
	must(t, err)
	var others []func() error
	for i := 0; len(others) < 10; i++ {
		id, verifier := mustSignIn(t, s, fmt.Sprint("user", i))
		node, err := c.NodeOfSlot(redistest.Slot(sessionKey(id)))
		must(t, err)
		if node != down {
			others = append(others, func() error { return s.Touch(t.Context(), id, verifier) })
		}
	}
	replica, err := c.Replica(down)
	must(t, err)
	must(t, replica.Kill())
	must(t, down.Kill())
	begin := time.Now()
	for time.Since(begin) < 2*knownDown {
		for i, touch := range others {
			if err := within(t, 0, touch); err != nil {
				t.Errorf("session %d of another primary: %v", i, err)
			}
		}
		_ = within(t, knownDown, func() error { return s.Touch(t.Context(), id, verifier) })
		time.Sleep(20 * time.Millisecond)
	}
	for name, do := range operations(t, s, id, verifier) {
		mustFailAtOnce(t, name, do)
	}
	must(t, down.Restart())
	eventually(t, recovery, func() error {
		id, o := newSession()
		id.Bucket = driver.BucketOf(ownerOf("ada"))
		_, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier})
		return err
	})
}
