package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
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
// One of many tries must be as fast as promised: others share the machine.
func mustFailAtOnce(t *testing.T, name string, do func() error) {
	t.Helper()
	fastest := time.Hour
	for tries := 0; tries < 3 || tries < 20 && fastest > atOnce; tries++ {
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

// mustKnowOutage repeats an operation until the store fails it because it knows of the outage.
func mustKnowOutage(t *testing.T, limit time.Duration, do func() error) {
	t.Helper()
	eventually(t, limit, func() error {
		if err := do(); err == nil || !strings.Contains(err.Error(), "nothing was sent, because the server is down") {
			return fmt.Errorf("%v, want an error that says that the server is down", err)
		}
		return nil
	})
}

// TestKnownOutageFailsOperationsAtOnce kills a server for a while. Operations fail at once after
// the first second, with an error that rules out any effect. They succeed within a second after the
// server is back.
func TestKnownOutageFailsOperationsAtOnce(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	// An operation that does not know of the outage fails much later.
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{Timeout: 20 * time.Second})
	id, verifier := mustSignIn(t, s, "ada")
	must(t, node.Kill())
	if err := within(t, knownDown, func() error { return s.Touch(t.Context(), id, verifier) }); err == nil {
		t.Error("Touch succeeds without a server")
	}
	all := operations(t, s, id, verifier)
	mustKnowOutage(t, knownDown, all["Load"])
	mustKnowOutage(t, knownDown, all["Apply"])
	for name, do := range all {
		mustFailAtOnce(t, name, do)
	}
	must(t, node.Restart())
	begin := time.Now()
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
	all := operations(t, s, id, verifier)
	mustKnowOutage(t, 4*time.Second, all["Load"])
	mustKnowOutage(t, 4*time.Second, all["Apply"])
	for name, do := range all {
		mustFailAtOnce(t, name, do)
	}
	must(t, node.Resume())
	eventually(t, time.Second, func() error { return s.Touch(t.Context(), id, verifier) })
}

// redisstoreDownAfter is how long an outage lasts until the store knows of it.
const redisstoreDownAfter = time.Second

// TestShortOutageFailsNoOperation restarts a server within a few hundred milliseconds. An operation
// that begins meanwhile waits and succeeds.
func TestShortOutageFailsNoOperation(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{Config: []string{"appendonly yes", "appendfsync always"}})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := mustSignIn(t, s, "ada")
	touch := func() error { return s.Touch(t.Context(), id, verifier) }
	mustSurviveShort(t, redisstoreDownAfter, func(int) (time.Time, error) {
		eventually(t, recovery, touch) // the store may know of an outage
		began := time.Now()
		must(t, node.Kill())
		done := make(chan error, 1)
		go func() { done <- touch() }()
		time.Sleep(200 * time.Millisecond)
		must(t, node.Restart())
		return began, <-done
	})
}

// TestSlowReplyIsNoOutage pauses a server for less than an operation waits. Operations wait and
// succeed, during the pause and after it.
func TestSlowReplyIsNoOutage(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := mustSignIn(t, s, "ada")
	touch := func() error { return s.Touch(t.Context(), id, verifier) }
	mustSurviveShort(t, 2*time.Second, func(int) (time.Time, error) { // an operation waits for 2s
		eventually(t, recovery, touch) // the store may know of an outage
		began := time.Now()
		must(t, node.Pause())
		resumed := make(chan error, 1)
		time.AfterFunc(1200*time.Millisecond, func() { resumed <- node.Resume() })
		var err error
		for range 20 {
			if err = touch(); err != nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		must(t, <-resumed)
		return began, err
	})
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
	mustKnowOutage(t, knownDown, all["Apply"])
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
	c := redistest.StartCluster(t, redistest.Options{
		Config: []string{"cluster-require-full-coverage no"}, DownAfter: never,
	})
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
	all := operations(t, s, id, verifier)
	mustKnowOutage(t, knownDown, all["Load"])
	mustKnowOutage(t, knownDown, all["Apply"])
	for name, do := range all {
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
