package redisstore_test

import (
	"errors"
	"fmt"
	"slices"
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
		a, b := mustOpen(t, url, calm), mustOpen(t, url, calm)
		other := mustOpen(t, url, redisstore.Options{NearCache: -1, Timeout: calm.Timeout})
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
				id, in := newSignIn(fmt.Sprint("user", i), 0)
				eventually(t, anytime, func() error {
					_, err := a.SignIn(t.Context(), id, in)
					return err
				})
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
			mustStayEnded(t, r, reached, func() (alive int, err error) {
				for i, id := range ids {
					if !acknowledged.has(i) {
						continue
					}
					ended, err := hasEnded(t, b, id)
					if err != nil {
						return 0, err
					}
					if !ended {
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
			ended := startStopwatch()
			must(t, <-failedOver)
			mustUsePrimaries(t, r, a, b)
			mustStayEnded(t, r, ended, func() (alive int, err error) {
				ended, err := hasEnded(t, b, last)
				if !ended {
					alive++
				}
				return alive, err
			})
		})
	}
}

// replicated is a set of servers whose primaries a replica can replace.
type replicated struct {
	url          string
	settle       func() error // returns when all replicas are up to date
	primaries    func() ([]*redistest.Node, error)
	failover     func(key string) error // replaces a key's primary; the new one answers on return
	setDownAfter func(time.Duration) error
}

func startSentinel(t *testing.T) *replicated {
	t.Helper()
	return ofSentinel(redistest.StartSentinel(t, steady))
}

func ofSentinel(s *redistest.Sentinel) *replicated {
	return &replicated{
		url: sentinelURL(s), settle: s.Settle, setDownAfter: s.SetDownAfter,
		primaries: func() ([]*redistest.Node, error) { n, err := s.Primary(); return []*redistest.Node{n}, err },
		failover:  func(string) error { _, err := s.Failover(); return err },
	}
}

func startCluster(t *testing.T) *replicated {
	t.Helper()
	return ofCluster(redistest.StartCluster(t, steady))
}

func ofCluster(c *redistest.Cluster) *replicated {
	return &replicated{
		url: clusterURL(c), settle: c.Settle, primaries: c.Primaries, setDownAfter: c.SetDownAfter,
		failover: func(key string) error {
			primary, err := c.NodeOfSlot(redistest.Slot(key))
			if err == nil {
				_, err = c.Failover(primary)
			}
			return err
		},
	}
}

// mustReplace stops a primary and returns when a replica has replaced it. After that, no replica
// replaces another primary by itself.
func (r *replicated) mustReplace(t *testing.T, primary *redistest.Node, stop func() error) {
	t.Helper()
	before, err := r.primaries()
	must(t, err)
	must(t, r.setDownAfter(soon))
	must(t, stop())
	eventually(t, anytime, func() error { // sentinels that vote for themselves try again after 10 s
		now, err := r.primaries()
		if err == nil && (len(now) < len(before) || slices.Contains(now, primary)) {
			err = fmt.Errorf("%v is not replaced", primary)
		}
		return err
	})
	must(t, r.setDownAfter(never))
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
				must(t, r.settle()) // the replicas have the sessions
				primaries, err := r.primaries()
				must(t, err)
				primary := primaries[0]
				switch how {
				case "planned":
					must(t, r.failover(sessionKey(l.visitors[0].id)))
				case "kill -9":
					r.mustReplace(t, primary, primary.Kill)
				case "SIGSTOP":
					r.mustReplace(t, primary, primary.Pause)
				}
				l.mustRecoverEverySession()
				if how == "SIGSTOP" {
					must(t, primary.Resume())
					must(t, r.setDownAfter(never))
				}
				must(t, r.settle())
				l.mustRecoverEverySession()
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
		eventually(t, anytime, func() error {
			_, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier})
			return err
		})
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
		r.mustReplace(t, primaries[0], primaries[0].Kill)
	}
	reached := mustReach(t, other, ids)
	wait()
	mustUsePrimaries(t, r, s, other)
	mustStayEnded(t, r, reached, func() (alive int, err error) {
		stored, err := storedKeys(r)
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			ended, err := hasEnded(t, other, id)
			if err != nil {
				return 0, err
			}
			if !ended || stored[sessionKey(id)] {
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

// inTurn starts operation 0 … n-1 in the background, one each interval. It returns those that
// succeed, and a function that waits until all have ended.
func inTurn(n int, interval time.Duration, do func(i int) error) (*successes, func()) {
	acknowledged := &successes{set: map[int]bool{}}
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
	eventually(t, anytime, func() error {
		if done := acknowledged.len(); done < n {
			return fmt.Errorf("%d operations are acknowledged, want %d", done, n)
		}
		return nil
	})
}

// mustStayEnded waits until no session is alive. The test fails if one is alive when the watch
// shows five seconds. Then it waits until the servers have settled, and checks that no session has
// come back.
func mustStayEnded(t *testing.T, r *replicated, watch stopwatch, alive func() (int, error)) {
	t.Helper()
	late, left := false, 0
	eventually(t, anytime, func() (err error) { // a slow machine may let a read time out
		late = watch.elapsed() >= 5*time.Second
		if left, err = alive(); err == nil && left > 0 && !late {
			err = fmt.Errorf("%d ended sessions are alive", left)
		}
		return err
	})
	if left > 0 {
		t.Errorf("%d ended sessions are alive after the deadline", left)
	}
	must(t, r.settle())
	eventually(t, anytime, func() (err error) { left, err = alive(); return err })
	if left > 0 {
		t.Errorf("%d ended sessions are alive after the servers have settled", left)
	}
}

// hasEnded reports whether the server has no such session any more.
func hasEnded(t *testing.T, s *redisstore.Store, id driver.ID) (bool, error) {
	_, _, err := s.LoadFresh(t.Context(), id)
	if errors.Is(err, driver.ErrNotFound) {
		return true, nil
	}
	return false, err
}

// mustReach waits until a store can read from every primary, and starts a stopwatch.
func mustReach(t *testing.T, s *redisstore.Store, ids []driver.ID) stopwatch {
	t.Helper()
	eventually(t, anytime, func() error {
		for _, id := range ids[:30] {
			if _, _, err := s.LoadFresh(t.Context(), id); err != nil && !errors.Is(err, driver.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	return startStopwatch()
}

// mustUsePrimaries waits until the stores send their commands to the current primaries. A store may
// stay connected to a deposed primary for a moment, on which every session has ended.
func mustUsePrimaries(t *testing.T, r *replicated, stores ...*redisstore.Store) {
	t.Helper()
	for _, s := range stores {
		eventually(t, anytime, func() error {
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
