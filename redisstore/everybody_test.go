package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestEverybodyInterrupted: everybody is revoked, and the process stops before it has removed a session. No node serves any of them; others
// go on where it stopped, two at a time, and what is new stays.
func TestEverybodyInterrupted(t *testing.T) {
	const many = 3000
	eachTopology(t, func(t *testing.T, url string, do func(key string, args ...string) any) {
		o := redisstore.Options{Timeout: 10 * time.Second}
		a, b, copiesNothing := open(t, url, o), open(t, url, o), open(t, url, redisstore.Options{Timeout: 10 * time.Second, NearCache: -1})
		var ids []driver.ID
		var verifiers []driver.Hash
		for i := range many {
			id, o := fresh()
			create(t, a, id, o)
			ids, verifiers = append(ids, id), append(verifiers, o.Verifier)
			if i < 5 {
				warm(t, b, id)
			}
		}
		user, verifier := signedIn(t, a, "ada")
		warm(t, b, user)
		ids, verifiers = append(ids, user), append(verifiers, verifier)
		time.Sleep(2 * time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		const key = "coatcheck:revoked"
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for there := any(nil); there != int64(1); {
				there = do(key, "EXISTS", key)
			}
			cancel()
		}()
		err := a.EndAll(ctx)
		<-stopped
		if err == nil {
			t.Fatal("it was to be interrupted")
		}
		if _, _, err := b.Load(t.Context(), user); err == nil {
			time.Sleep(10 * time.Millisecond) // the word is under way
		}
		for i := range ids {
			if i > 20 && i < many {
				continue
			}
			isOver(t, b, ids[i], verifiers[i])
			isOver(t, a, ids[i], verifiers[i])
		}
		eventually(t, 600*time.Millisecond, func() error { // it has nothing but its checkups to hear by
			if _, _, err := copiesNothing.Load(t.Context(), user); !errors.Is(err, driver.ErrNotFound) {
				return fmt.Errorf("a node without a near cache: %v, want ErrNotFound", err)
			}
			return nil
		})
		id, in := signInOf("eve", 0)
		in.Elapsed = time.Second
		if _, err := b.SignIn(t.Context(), id, in); !errors.Is(err, driver.ErrRevoked) {
			t.Errorf("a sign-in that began before: %v, want ErrRevoked", err)
		}
		late := open(t, url, o) // a process that starts meanwhile
		if _, _, err := late.Load(t.Context(), user); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("a new process: %v, want ErrNotFound", err)
		}
		young, theirs := signedIn(t, b, "bob")
		var both sync.WaitGroup
		for _, s := range []*redisstore.Store{b, late} {
			both.Go(func() {
				if err := s.EndAll(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		isOver(t, a, young, theirs) // it is older than these
		for i, id := range ids {
			if there := do(keyOf(id), "EXISTS", keyOf(id)); there != int64(0) {
				t.Fatalf("session %d of %d is still stored", i, len(ids))
			}
		}
		time.Sleep(2 * time.Millisecond)
		young, theirs = signedIn(t, b, "bob")
		lives(t, a, young, theirs)
	})
}

// TestRevocationsLost: a failover loses the times at which a user and everybody were revoked, and brings the sessions back. The nodes that
// know of them put them back.
func TestRevocationsLost(t *testing.T) {
	few(t)
	eachTopology(t, func(t *testing.T, url string, do func(key string, args ...string) any) {
		a, b := open(t, url, redisstore.Options{}), open(t, url, redisstore.Options{})
		other := open(t, url, redisstore.Options{NearCache: -1})
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
		id, _ := signedIn(t, a, "ada")
		dump := do(keyOf(id), "DUMP", keyOf(id)).(string)
		lost(indexKey(ownerOf("ada")))
		time.Sleep(2 * time.Millisecond)
		if _, err := a.EndUser(t.Context(), ownerOf("ada"), driver.Selection{}); err != nil {
			t.Fatal(err)
		}
		lost(bucketKey("ada", "n"))
		do(keyOf(id), "RESTORE", keyOf(id), "0", dump, "REPLACE")
		refused("a user's session after a failover", other, id)

		// Everybody: any node that has heard of it puts it back.
		id, _ = signedIn(t, a, "eve")
		dump = do(keyOf(id), "DUMP", keyOf(id)).(string)
		time.Sleep(2 * time.Millisecond)
		if err := b.EndAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		ok(t, b.Close())
		refused("everybody's session", a, id)
		lost("coatcheck:revoked")
		do(keyOf(id), "RESTORE", keyOf(id), "0", dump, "REPLACE")
		refused("everybody's session after a failover", a, id)
		eventually(t, 5*time.Second, func() error {
			if do("coatcheck:revoked", "EXISTS", "coatcheck:revoked") != int64(1) {
				return errors.New("the time is not put back")
			}
			return nil
		})
		refused("for a new process", open(t, url, redisstore.Options{}), id)
	})
}

// TestRevokedAroundFailover revokes users, and at last everybody, around a failover. Five seconds later none of their sessions is alive.
func TestRevokedAroundFailover(t *testing.T) {
	const users = 300
	for _, topology := range replacing {
		t.Run(topology.name, func(t *testing.T) {
			few(t)
			r := topology.start(t)
			a, b := open(t, r.url, redisstore.Options{}), open(t, r.url, redisstore.Options{})
			var ids []driver.ID
			for i := range users {
				id, _ := signedIn(t, a, fmt.Sprint("user", i))
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
			ok(t, r.planned())
			reached := reachable(t, b, ids)
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
			ok(t, r.settle())
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

// TestEverybodyReachesOtherNodes measures how long after everybody was revoked another node still serves a copy.
func TestEverybodyReachesOtherNodes(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	a, b := open(t, "redis://"+node.Addr(), redisstore.Options{}), open(t, "redis://"+node.Addr(), redisstore.Options{})
	var delays []time.Duration
	for range 200 {
		id, o := fresh()
		create(t, a, id, o)
		warm(t, b, id)
		time.Sleep(2 * time.Millisecond)
		ok(t, a.EndAll(t.Context()))
		acknowledged := time.Now()
		for {
			if _, _, err := b.Load(t.Context(), id); errors.Is(err, driver.ErrNotFound) {
				break
			}
			if time.Since(acknowledged) > lease {
				t.Fatal("the copy is served for longer than the lease")
			}
		}
		delays = append(delays, time.Since(acknowledged))
		time.Sleep(2 * time.Millisecond)
	}
	slices.Sort(delays)
	t.Logf("another node stopped serving after %v (median), %v (p99)", delays[len(delays)/2], delays[len(delays)*99/100])
}

// TestEverybodyOnReplicas: with Options.Replicas a revocation of everybody waits for them, and is an error if they do not answer.
func TestEverybodyOnReplicas(t *testing.T) {
	few(t)
	servers := redistest.StartSentinel(t, redistest.Options{})
	ok(t, servers.Settle())
	s := open(t, sentinelURL(servers), waitingFor(2))
	ok(t, s.EndAll(t.Context()))
	for _, n := range servers.Nodes {
		if there, err := n.Do("EXISTS", "coatcheck:revoked"); err != nil || there != int64(1) {
			t.Errorf("%s has no time of the revocation, error %v", n, err)
		}
	}
	tooMany := open(t, sentinelURL(servers), redisstore.Options{Replicas: 3})
	if err := tooMany.EndAll(t.Context()); !errors.As(err, new(*redisstore.ReplicaError)) {
		t.Errorf("with more replicas than there are: %v, want a ReplicaError", err)
	}
}

// TestEverybodyOnReplicasAhead: the time that is noted may be ahead already. What waits for replicas writes all the same.
func TestEverybodyOnReplicasAhead(t *testing.T) {
	few(t)
	with, _ := waitingServers(t)
	servers := redistest.StartSentinel(t, redistest.Options{Server: with[0]})
	ok(t, servers.Settle())
	s := open(t, sentinelURL(servers), redisstore.Options{Replicas: 2})
	ahead := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
	primary, err := servers.Primary()
	ok(t, err)
	_, err = primary.Do("SET", "coatcheck:revoked", ahead)
	ok(t, err)
	ok(t, servers.Settle())
	for _, n := range servers.Nodes {
		if n != primary {
			ok(t, n.Pause())
		}
	}
	if err := s.EndAll(t.Context()); !errors.As(err, new(*redisstore.ReplicaError)) {
		t.Errorf("with replicas that hang: %v, want a ReplicaError", err)
	}
	if at, err := primary.Do("GET", "coatcheck:revoked"); err != nil || at != ahead {
		t.Errorf("the time is %v, error %v; want %s as before", at, err, ahead)
	}
}

// TestEverybodyAway: the answer to a revocation of everybody was lost, and the server is silent. Those who wait for what it says do so together, and
// not one after the other.
func TestEverybodyAway(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{Timeout: 300 * time.Millisecond})
	id, o := fresh()
	create(t, s, id, o)
	ok(t, node.Pause())
	if err := s.EndAll(t.Context()); err == nil {
		t.Fatal("it is to fail")
	}
	var all sync.WaitGroup
	begin := time.Now()
	for range 30 {
		all.Go(func() {
			if _, _, err := s.Load(t.Context(), id); err == nil {
				t.Error("a session is served, though it may be revoked")
			}
		})
	}
	all.Wait()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("30 at the same time took %v, with a timeout of 300ms for each", took)
	}
	ok(t, node.Resume())
	eventually(t, recovery, func() error {
		_, _, err := s.Load(t.Context(), id)
		if errors.Is(err, driver.ErrNotFound) { // it was revoked after all
			err = nil
		}
		return err
	})
}

// TestEverybodyLostForGood: a failover loses the time, and the new primary takes no writes, so that it cannot be put back. Visitors are served.
func TestEverybodyLostForGood(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{Config: []string{"min-replicas-to-write 1"}})
	_, err := node.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	ok(t, err)
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := fresh()
	create(t, s, id, o)
	ok(t, s.EndAll(t.Context()))
	id, o = fresh()
	time.Sleep(2 * time.Millisecond)
	create(t, s, id, o)
	ok(t, node.Restart()) // with nothing, and without replicas
	eventually(t, recovery, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load: %v, want ErrNotFound", err)
		}
		return nil
	})
	time.Sleep(time.Second) // some checkups
	for range 5 {
		begin := time.Now()
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) || time.Since(begin) > time.Second {
			t.Errorf("Load: %v after %v, want ErrNotFound at once", err, time.Since(begin))
		}
	}
	_, err = node.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	ok(t, err)
	eventually(t, 5*time.Second, func() error {
		if there, err := node.Do("EXISTS", "coatcheck:revoked"); err != nil || there != int64(1) {
			return errors.New("the time is not put back")
		}
		return nil
	})
}
