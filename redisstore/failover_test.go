package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestNodesRestoreRevocationsThatAFailoverLost: a failover loses the times at which a user and everybody were revoked, and brings the sessions back. The nodes that
// know of them put them back.
func TestNodesRestoreRevocationsThatAFailoverLost(t *testing.T) {
	limitParallel(t)
	eachTopology(t, func(t *testing.T, url string, do func(key string, args ...string) any) {
		a, b := mustOpen(t, url, redisstore.Options{}), mustOpen(t, url, redisstore.Options{})
		other := mustOpen(t, url, redisstore.Options{NearCache: -1})
		lost := func(key string) { do(key, "DEL", key) }
		refused := func(what string, s *redisstore.Store, id driver.ID) {
			t.Helper()
			eventually(t, 5*time.Second, func() error {
				if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
					return fmt.Errorf("%s: %v, want ErrNotFound", what, err)
				}
				return nil
			})
		}
		// A user: the session that the index did not know is known to nobody, but the time is.
		id, _ := mustSignIn(t, a, "ada")
		dump := do(sessionKey(id), "DUMP", sessionKey(id)).(string)
		lost(indexKey(ownerOf("ada")))
		time.Sleep(2 * time.Millisecond)
		if _, err := a.EndUser(t.Context(), ownerOf("ada"), driver.Selection{}); err != nil {
			t.Fatal(err)
		}
		lost(bucketKey("ada", "n"))
		do(sessionKey(id), "RESTORE", sessionKey(id), "0", dump, "REPLACE")
		refused("a user's session after a failover", other, id)

		// Everybody: any node that has heard of it puts it back.
		id, _ = mustSignIn(t, a, "eve")
		dump = do(sessionKey(id), "DUMP", sessionKey(id)).(string)
		time.Sleep(2 * time.Millisecond)
		if err := b.EndAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		must(t, b.Close())
		refused("everybody's session", a, id)
		lost("coatcheck:revoked")
		do(sessionKey(id), "RESTORE", sessionKey(id), "0", dump, "REPLACE")
		refused("everybody's session after a failover", a, id)
		eventually(t, 5*time.Second, func() error {
			if do("coatcheck:revoked", "EXISTS", "coatcheck:revoked") != int64(1) {
				return errors.New("the time is not put back")
			}
			return nil
		})
		refused("for a new process", mustOpen(t, url, redisstore.Options{}), id)
	})
}

// TestRevocationsSurviveFailover revokes users, and at last everybody, around a failover. Five seconds later none of their sessions is alive.
func TestRevocationsSurviveFailover(t *testing.T) {
	const users = 300
	for _, topology := range failoverTopologies {
		t.Run(topology.name, func(t *testing.T) {
			limitParallel(t)
			r := topology.start(t)
			a, b := mustOpen(t, r.url, redisstore.Options{}), mustOpen(t, r.url, redisstore.Options{})
			var ids []driver.ID
			for i := range users {
				id, _ := mustSignIn(t, a, fmt.Sprint("user", i))
				ids = append(ids, id)
			}
			time.Sleep(300 * time.Millisecond)
			var all sync.WaitGroup
			var acknowledged sync.Map
			all.Go(func() {
				var each sync.WaitGroup
				for i := range users - 1 {
					each.Go(func() {
						if _, err := a.EndUser(t.Context(), ownerOf(fmt.Sprint("user", i)), driver.Selection{}); err == nil {
							acknowledged.Store(i, nil)
						}
					})
					time.Sleep(8 * time.Millisecond)
				}
				each.Wait()
			})
			time.Sleep(1500 * time.Millisecond)
			must(t, r.planned())
			reached := mustReach(t, b, ids)
			all.Wait()
			time.Sleep(time.Until(reached.Add(5 * time.Second)))
			total, alive := 0, 0
			for i, id := range ids {
				if _, is := acknowledged.Load(i); !is {
					continue
				}
				total++
				if _, _, err := b.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
					alive++
				}
			}
			t.Logf("%d of %d revocations were acknowledged, %d sessions are alive", total, users, alive)
			if alive > 0 || total < users/2 {
				t.Errorf("%d of %d revoked sessions are alive", alive, total)
			}
			must(t, r.settle())
			go func() { _ = r.planned() }()
			time.Sleep(20 * time.Millisecond)
			eventually(t, recovery, func() error { return a.EndAll(t.Context()) })
			time.Sleep(5 * time.Second)
			if _, _, err := b.LoadFresh(t.Context(), ids[users-1]); !errors.Is(err, driver.ErrNotFound) {
				t.Errorf("after everybody was revoked around a failover: %v, want ErrNotFound", err)
			}
		})
	}
}

// replicated is a set of servers with a primary that another one can replace.
type replicated struct {
	url       string
	settle    func() error
	primaries func() ([]*redistest.Node, error)
	planned   func() error // returns when the new primary can be reached
}

func startSentinel(t *testing.T) *replicated {
	t.Helper()
	s := redistest.StartSentinel(t, redistest.Options{})
	return &replicated{
		url: sentinelURL(s), settle: s.Settle,
		primaries: func() ([]*redistest.Node, error) { n, err := s.Primary(); return []*redistest.Node{n}, err },
		planned:   func() error { _, err := s.Failover(); return err },
	}
}

func startCluster(t *testing.T) *replicated {
	t.Helper()
	c := redistest.StartCluster(t, redistest.Options{})
	return &replicated{
		url: "redis+cluster://" + strings.Join(c.Addrs(), ","), settle: c.Settle, primaries: c.Primaries,
		planned: func() error { _, err := c.Failover(c.Nodes[0]); return err },
	}
}

var failoverTopologies = []struct {
	name  string
	start func(*testing.T) *replicated
}{{"Sentinel", startSentinel}, {"Cluster", startCluster}}

// TestFailoverRepeatsNoWriteAndSignsNobodyOut replaces a primary under load in three ways: nothing is done twice, nobody is signed out, and the store recovers by itself.
// What servers that replicate after they answer may lose is reported, not judged.
func TestFailoverRepeatsNoWriteAndSignsNobodyOut(t *testing.T) {
	for _, topology := range failoverTopologies {
		for _, how := range []string{"planned", "kill -9", "SIGSTOP"} {
			t.Run(topology.name+", "+how, func(t *testing.T) {
				limitParallel(t)
				r := topology.start(t)
				l := startLoad(t, mustOpen(t, r.url, redisstore.Options{}), 24)
				time.Sleep(500 * time.Millisecond) // so that the replicas have the sessions
				primaries, err := r.primaries()
				must(t, err)
				primary := primaries[0]
				begin := time.Now()
				switch how {
				case "planned":
					must(t, r.planned())
				case "kill -9":
					must(t, primary.Kill())
				case "SIGSTOP":
					must(t, primary.Pause())
				}
				l.mustRecoverEverySession(begin)
				if how == "SIGSTOP" {
					must(t, primary.Resume())
				}
				must(t, r.settle())
				l.mustRecoverEverySession(time.Now())
				l.mustCountExactly(true)
			})
		}
	}
}

// mustRecoverEverySession waits until changes of every session are acknowledged again.
func (l *load) mustRecoverEverySession(since time.Time) {
	l.t.Helper()
	before := make([]int64, len(l.visitors))
	for i, c := range l.visitors {
		before[i] = c.acknowledged.Load()
	}
	for i, c := range l.visitors {
		for c.acknowledged.Load() == before[i] {
			if time.Since(since) > 20*time.Second {
				l.t.Fatalf("no change of session %s is acknowledged 20s later; the last error: %v", c.id, l.example.Load())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	l.mustRecover(since)
}

// TestEndsSurviveFailover signs 1,000 sessions out around a failover. Five seconds after the new primary can be reached, none of which the end
// was acknowledged is alive, on the servers and for another store.
func TestEndsSurviveFailover(t *testing.T) {
	for _, topology := range failoverTopologies {
		for _, how := range []string{"planned", "kill -9"} {
			t.Run(topology.name+", "+how, func(t *testing.T) {
				limitParallel(t)
				endDuringFailover(t, topology.start(t), how == "planned")
			})
		}
	}
}

func endDuringFailover(t *testing.T, r *replicated, planned bool) {
	s, other := mustOpen(t, r.url, redisstore.Options{}), mustOpen(t, r.url, redisstore.Options{})
	ids := mustCreateMany(t, s, 1000)
	primaries, err := r.primaries()
	must(t, err)
	var all sync.WaitGroup
	var acknowledged sync.Map
	all.Go(func() { // over three seconds, from before the failover until after it
		var each sync.WaitGroup
		for _, id := range ids {
			each.Go(func() {
				if s.End(t.Context(), id) == nil {
					acknowledged.Store(id, nil)
				}
			})
			time.Sleep(3 * time.Millisecond)
		}
		each.Wait()
	})
	time.Sleep(2 * time.Second)
	if planned {
		must(t, r.planned())
	} else {
		must(t, primaries[0].Kill())
	}
	reached := mustReach(t, other, ids)
	all.Wait()
	time.Sleep(time.Until(reached.Add(5 * time.Second)))
	alive := mustReadKeys(t, r)
	total, bad := 0, 0
	for _, id := range ids { // those included that failed: they are being repeated
		_, _, err := other.LoadFresh(t.Context(), id)
		if !errors.Is(err, driver.ErrNotFound) || alive[sessionKey(id)] {
			bad++
		}
		if _, is := acknowledged.Load(id); is {
			total++
		}
	}
	t.Logf("%d of %d ends were acknowledged, %d are alive", total, len(ids), bad)
	if bad > 0 || total < 300 {
		t.Errorf("%d of %d ended sessions are alive, %d ends were acknowledged", bad, len(ids), total)
	}
}

// mustCreateMany creates sessions, and waits until the replicas may be taken to have them.
func mustCreateMany(t *testing.T, s *redisstore.Store, n int) (ids []driver.ID) {
	t.Helper()
	for range n {
		id, o := newSession()
		mustCreate(t, s, id, o)
		ids = append(ids, id)
	}
	time.Sleep(300 * time.Millisecond)
	return ids
}

// reachable waits until a store can read of every node, and returns when.
func mustReach(t *testing.T, s *redisstore.Store, ids []driver.ID) time.Time {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		for _, id := range ids[:30] {
			if _, _, err := s.LoadFresh(t.Context(), id); err != nil && !errors.Is(err, driver.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	return time.Now()
}

// mustReadKeys returns the keys that the primaries have. One that was deposed may have more until it is told.
func mustReadKeys(t *testing.T, r *replicated) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	primaries, err := r.primaries()
	must(t, err)
	for _, n := range primaries {
		reply, err := n.Do("KEYS", "*")
		must(t, err)
		for _, key := range reply.([]any) {
			keys[fmt.Sprint(key)] = true
		}
	}
	return keys
}
