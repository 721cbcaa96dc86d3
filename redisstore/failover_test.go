package redisstore_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestNodesRestoreRevocationsThatAFailoverLost plays a failover that loses two revocations, of one
// user and of all users, and brings the sessions back. The nodes that know the revocations restore
// them.
func TestNodesRestoreRevocationsThatAFailoverLost(t *testing.T) {
	limitParallel(t)
	eachTopology(t, func(t *testing.T, url string, do func(key string, args ...string) any) {
		a, b := mustOpen(t, url, redisstore.Options{}), mustOpen(t, url, redisstore.Options{})
		other := mustOpen(t, url, redisstore.Options{NearCache: -1})
		lost := func(key string) { do(key, "DEL", key) }
		mustRefuse := func(what string, s *redisstore.Store, id driver.ID) {
			t.Helper()
			eventually(t, 5*time.Second, func() error {
				if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
					return fmt.Errorf("%s: %v, want ErrNotFound", what, err)
				}
				return nil
			})
		}
		// One user. No node knows the session, because the index is lost, but one knows the
		// revocation.
		id, _ := mustSignIn(t, a, "ada")
		dump := do(sessionKey(id), "DUMP", sessionKey(id)).(string)
		lost(indexKey(ownerOf("ada")))
		time.Sleep(2 * time.Millisecond)
		_, err := a.EndUser(t.Context(), ownerOf("ada"), driver.Selection{})
		must(t, err)
		lost(bucketKey("ada", "n"))
		do(sessionKey(id), "RESTORE", sessionKey(id), "0", dump, "REPLACE")
		mustRefuse("a user's session after a failover", other, id)

		// All users. Every node that knows the revocation restores it.
		id, _ = mustSignIn(t, a, "eve")
		dump = do(sessionKey(id), "DUMP", sessionKey(id)).(string)
		time.Sleep(2 * time.Millisecond)
		must(t, b.EndAll(t.Context()))
		must(t, b.Close())
		mustRefuse("a session after EndAll", a, id)
		lost("coatcheck:revoked")
		do(sessionKey(id), "RESTORE", sessionKey(id), "0", dump, "REPLACE")
		mustRefuse("a session after EndAll and a failover", a, id)
		eventually(t, 5*time.Second, func() error {
			if do("coatcheck:revoked", "EXISTS", "coatcheck:revoked") != int64(1) {
				return errors.New("the revocation is not restored")
			}
			return nil
		})
		mustRefuse("the session in a new process", mustOpen(t, url, redisstore.Options{}), id)
	})
}

// TestRevocationsSurviveFailover revokes users during a failover. Within five seconds after the new
// primary answers, no session whose revocation was acknowledged is alive. The same holds within
// five seconds after EndAll returns during a second failover.
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
			must(t, r.settle()) // the replicas have the sessions
			acknowledged, wait := inTurn(users-1, 8*time.Millisecond, func(i int) error {
				_, err := a.EndUser(t.Context(), ownerOf(fmt.Sprint("user", i)), driver.Selection{})
				return err
			})
			mustAcknowledge(t, acknowledged, 180)
			must(t, r.failover(bucketKey("user0", "n")))
			reached := mustReach(t, b, ids)
			wait()
			mustUsePrimaries(t, r, a, b)
			mustStayEnded(t, r, reached.Add(5*time.Second), func() (alive int, err error) {
				for i, id := range ids {
					if acknowledged.has(i) && !hasEnded(t, b, id) {
						alive++
					}
				}
				return alive, nil
			})
			t.Logf("%d of %d revocations were acknowledged", acknowledged.len(), users)
			if n := acknowledged.len(); n < users/2 {
				t.Errorf("%d of %d revocations were acknowledged, too few to show anything", n, users)
			}
			last := ids[users-1]
			failedOver := make(chan error, 1)
			go func() { failedOver <- r.failover("coatcheck:revoked") }()
			time.Sleep(20 * time.Millisecond)
			eventually(t, recovery, func() error { return a.EndAll(t.Context()) })
			deadline := time.Now().Add(5 * time.Second)
			must(t, <-failedOver)
			mustUsePrimaries(t, r, a, b)
			mustStayEnded(t, r, deadline, func() (alive int, err error) {
				if !hasEnded(t, b, last) {
					alive++
				}
				return alive, nil
			})
		})
	}
}

// replicated is a set of servers whose primaries a replica can replace.
type replicated struct {
	url       string
	settle    func() error // returns when all replicas are up to date
	primaries func() ([]*redistest.Node, error)
	failover  func(key string) error // replaces a key's primary; the new one answers on return
}

func startSentinel(t *testing.T) *replicated {
	t.Helper()
	s := redistest.StartSentinel(t, redistest.Options{})
	return &replicated{
		url: sentinelURL(s), settle: s.Settle,
		primaries: func() ([]*redistest.Node, error) { n, err := s.Primary(); return []*redistest.Node{n}, err },
		failover:  func(string) error { _, err := s.Failover(); return err },
	}
}

func startCluster(t *testing.T) *replicated {
	t.Helper()
	c := redistest.StartCluster(t, redistest.Options{})
	return &replicated{
		url: clusterURL(c), settle: c.Settle, primaries: c.Primaries,
		failover: func(key string) error {
			primary, err := c.NodeOfSlot(redistest.Slot(key))
			if err == nil {
				_, err = c.Failover(primary)
			}
			return err
		},
	}
}

var failoverTopologies = []struct {
	name  string
	start func(*testing.T) *replicated
}{{"Sentinel", startSentinel}, {"Cluster", startCluster}}

// TestFailoverRepeatsNoWriteAndSignsNobodyOut replaces a primary under load, in three ways. No
// change is applied twice, nobody is signed out, and the store recovers by itself. Redis replicates
// asynchronously and may lose acknowledged changes. The test logs such losses and allows them.
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
					must(t, r.failover(sessionKey(l.visitors[0].id)))
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

// TestEndsSurviveFailover ends 1,000 sessions during a failover. Within five seconds after the new
// primary answers, none of them is alive, on the servers and for another store. That includes
// sessions whose end failed, because the store repeats those ends.
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
	ids := make([]driver.ID, 1000)
	for i := range ids {
		id, o := newSession()
		mustCreate(t, s, id, o)
		ids[i] = id
	}
	must(t, r.settle()) // the replicas have the sessions
	primaries, err := r.primaries()
	must(t, err)
	acknowledged, wait := inTurn(len(ids), 3*time.Millisecond, func(i int) error { return s.End(t.Context(), ids[i]) })
	mustAcknowledge(t, acknowledged, 600)
	if planned {
		must(t, r.failover(sessionKey(ids[0])))
	} else {
		must(t, primaries[0].Kill())
	}
	reached := mustReach(t, other, ids)
	wait()
	mustUsePrimaries(t, r, s, other)
	mustStayEnded(t, r, reached.Add(5*time.Second), func() (alive int, err error) {
		stored, err := storedKeys(r)
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			if !hasEnded(t, other, id) || stored[sessionKey(id)] {
				alive++
			}
		}
		return alive, nil
	})
	t.Logf("%d of %d ends were acknowledged", acknowledged.len(), len(ids))
	if n := acknowledged.len(); n < 300 {
		t.Errorf("%d of %d ends were acknowledged, too few to show anything", n, len(ids))
	}
}

// successes is the set of operations that returned no error.
type successes struct {
	mu  sync.Mutex
	set map[int]bool
}

func (s *successes) add(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set[i] = true
}

func (s *successes) has(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set[i]
}

func (s *successes) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.set)
}

// inTurn starts operation 0 … n-1 in the background, one each interval. The function wait returns
// when all have ended.
func inTurn(n int, interval time.Duration, do func(i int) error) (acknowledged *successes, wait func()) {
	acknowledged = &successes{set: map[int]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for i := range n {
			all.Go(func() {
				if do(i) == nil {
					acknowledged.add(i)
				}
			})
			time.Sleep(interval)
		}
	})
	return acknowledged, all.Wait
}

// mustAcknowledge waits until n operations are acknowledged. A failover then hits the others in
// flight.
func mustAcknowledge(t *testing.T, acknowledged *successes, n int) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		if done := acknowledged.len(); done < n {
			return fmt.Errorf("%d operations are acknowledged, want %d", done, n)
		}
		return nil
	})
}

// mustStayEnded waits until no session is alive, at most until the deadline. Then it waits until
// the servers have settled, and checks that no session has come back.
func mustStayEnded(t *testing.T, r *replicated, deadline time.Time, alive func() (int, error)) {
	t.Helper()
	n, err := alive()
	for (n > 0 || err != nil) && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
		n, err = alive()
	}
	if n > 0 || err != nil {
		t.Errorf("%d ended sessions are alive after the deadline (error %v)", n, err)
	}
	must(t, r.settle())
	if n, err := alive(); n > 0 || err != nil {
		t.Errorf("%d ended sessions are alive after the servers have settled (error %v)", n, err)
	}
}

// hasEnded reports whether the server has no such session any more.
func hasEnded(t *testing.T, s *redisstore.Store, id driver.ID) bool {
	_, _, err := s.LoadFresh(t.Context(), id)
	return errors.Is(err, driver.ErrNotFound)
}

// mustReach waits until a store can read from every primary, and returns the time.
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

// mustUsePrimaries waits until the stores send their commands to the current primaries. A store may
// stay connected to a deposed primary for a moment, on which every session has ended.
func mustUsePrimaries(t *testing.T, r *replicated, stores ...*redisstore.Store) {
	t.Helper()
	for _, s := range stores {
		eventually(t, 20*time.Second, func() error {
			id, o := newSession()
			if _, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier}); err != nil {
				return err
			}
			keys, err := storedKeys(r)
			if err == nil && !keys[sessionKey(id)] {
				err = errors.New("a store still uses a deposed primary")
			}
			return err
		})
	}
}

// storedKeys returns the keys on the primaries. A deposed primary may have more until it learns
// that it is deposed.
func storedKeys(r *replicated) (map[string]bool, error) {
	keys := map[string]bool{}
	primaries, err := r.primaries()
	if err != nil {
		return nil, err
	}
	for _, n := range primaries {
		reply, err := n.Do("EVAL", keysWithoutMarkers, "0")
		if err != nil {
			return nil, err
		}
		for _, key := range reply.([]any) {
			keys[fmt.Sprint(key)] = true
		}
	}
	return keys, nil
}
