package redisstore_test

import (
	"context"
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

// TestInterruptedEndAllEndsEverySession interrupts EndAll before it has deleted a session. No node
// serves any of the sessions. Two other nodes go on at the same time and delete them all. Sessions
// created later stay.
func TestInterruptedEndAllEndsEverySession(t *testing.T) {
	const many = 3000
	eachTopology(t, func(t *testing.T, url string, do func(key string, args ...string) any) {
		interrupted, ctx, arm := cancelAt(t, "SCAN") // for sessions to delete
		o := patient(redisstore.Options{})
		a, b := mustOpen(t, url, interrupted), mustOpen(t, url, o)
		uncached := mustOpen(t, url, patient(redisstore.Options{NearCache: -1}))
		var ids []driver.ID
		var verifiers []driver.Hash
		for i := range many {
			id, o := newSession()
			mustCreate(t, a, id, o)
			ids, verifiers = append(ids, id), append(verifiers, o.Verifier)
			if i < 5 {
				mustWarm(t, b, id)
			}
		}
		user, verifier := mustSignIn(t, a, "ada")
		mustWarm(t, b, user)
		ids, verifiers = append(ids, user), append(verifiers, verifier)
		time.Sleep(2 * time.Millisecond)
		arm()
		begin := time.Now()
		if err := a.EndAll(ctx); err == nil || ctx.Err() == nil {
			t.Fatalf("EndAll: %v, want an error, because it was interrupted", err)
		}
		mustStopServing(t, b, user) // the invalidation is on its way
		for i := range ids {
			if i > 20 && i < many {
				continue
			}
			mustBeRevoked(t, b, ids[i], verifiers[i])
			mustBeRevoked(t, a, ids[i], verifiers[i])
		}
		eventually(t, 600*time.Millisecond, func() error { // until the node's next checkup
			if _, _, err := uncached.Load(t.Context(), user); !errors.Is(err, driver.ErrNotFound) {
				return fmt.Errorf("a node without a near cache: %v, want ErrNotFound", err)
			}
			return nil
		})
		id, in := newSignIn("eve", 0)
		in.Elapsed = time.Since(begin) + time.Second
		if _, err := b.SignIn(t.Context(), id, in); !errors.Is(err, driver.ErrRevoked) {
			t.Errorf("a sign-in that began before EndAll: %v, want ErrRevoked", err)
		}
		late := mustOpen(t, url, o) // a process that starts between the two calls
		if _, _, err := late.Load(t.Context(), user); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("a new process: %v, want ErrNotFound", err)
		}
		young, theirs := mustSignIn(t, b, "bob")
		var both sync.WaitGroup
		for _, s := range []*redisstore.Store{b, late} {
			both.Go(func() {
				if err := s.EndAll(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		mustBeRevoked(t, a, young, theirs) // it is older than the last two calls
		for i, id := range ids {
			if exists := do(sessionKey(id), "EXISTS", sessionKey(id)); exists != int64(0) {
				t.Fatalf("session %d of %d is still stored", i, len(ids))
			}
		}
		time.Sleep(2 * time.Millisecond)
		young, theirs = mustSignIn(t, b, "bob")
		mustBeAlive(t, a, young, theirs)
	})
}

// TestEndAllReachesOtherNodes measures how long another node still serves a copy after EndAll. The
// bound is the lease.
func TestEndAllReachesOtherNodes(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	url, o := "redis://"+node.Addr(), patient(redisstore.Options{})
	a, b := mustOpen(t, url, o), mustOpen(t, url, o)
	var delays []time.Duration
	for range 200 {
		id, o := newSession()
		mustCreate(t, a, id, o)
		mustWarm(t, b, id)
		time.Sleep(2 * time.Millisecond)
		must(t, a.EndAll(t.Context()))
		acknowledged := time.Now()
		for {
			passed := time.Since(acknowledged)
			_, _, err := b.Load(t.Context(), id)
			if errors.Is(err, driver.ErrNotFound) {
				break
			}
			must(t, err)
			if passed > lease {
				t.Fatal("another node serves a copy for longer than the lease after EndAll")
			}
		}
		delays = append(delays, time.Since(acknowledged))
		time.Sleep(2 * time.Millisecond)
	}
	slices.Sort(delays)
	t.Logf("another node stopped serving after %v (median), %v (p99)", delays[len(delays)/2], delays[len(delays)*99/100])
}

// TestEndAllWaitsForReplicas calls EndAll with Options.Replicas. EndAll waits for the replicas, and
// returns an error if too few answer.
func TestEndAllWaitsForReplicas(t *testing.T) {
	limitParallel(t)
	servers := redistest.StartSentinel(t, redistest.Options{})
	must(t, servers.Settle())
	patience := patient(redisstore.Options{Replicas: 2, ReplicaTimeout: 20 * time.Second})
	s := mustOpen(t, sentinelURL(servers), patience)
	must(t, s.EndAll(t.Context()))
	for _, n := range servers.Nodes {
		if exists, err := n.Do("EXISTS", "coatcheck:revoked"); err != nil || exists != int64(1) {
			t.Errorf("%s does not have the revocation, error %v", n, err)
		}
	}
	tooMany := mustOpen(t, sentinelURL(servers), patient(redisstore.Options{Replicas: 3}))
	if err := tooMany.EndAll(t.Context()); !errors.As(err, new(*redisstore.ReplicaError)) {
		t.Errorf("EndAll with more replicas than exist: %v, want a ReplicaError", err)
	}
}

// TestEndAllWaitsForReplicasWhenStoredTimeIsAhead calls EndAll while the stored time is in the
// future. EndAll does not change that time, but still writes, so that it can wait for replicas.
func TestEndAllWaitsForReplicasWhenStoredTimeIsAhead(t *testing.T) {
	limitParallel(t)
	with, _ := mustFindServersByWAITAOF(t)
	servers := redistest.StartSentinel(t, redistest.Options{Server: with[0]})
	must(t, servers.Settle())
	s := mustOpen(t, sentinelURL(servers), patient(redisstore.Options{Replicas: 2}))
	ahead := hexTime(time.Now().Add(time.Hour).UnixMilli())
	primary, err := servers.Primary()
	must(t, err)
	_, err = primary.Do("SET", "coatcheck:revoked", ahead)
	must(t, err)
	must(t, servers.Settle())
	for _, n := range servers.Nodes {
		if n != primary {
			must(t, n.Pause())
		}
	}
	if err := s.EndAll(t.Context()); !errors.As(err, new(*redisstore.ReplicaError)) {
		t.Errorf("EndAll while the replicas hang: %v, want a ReplicaError", err)
	}
	if at, err := primary.Do("GET", "coatcheck:revoked"); err != nil || at != ahead {
		t.Errorf("the stored time is %v, error %v, want %s as before", at, err, ahead)
	}
}

// TestNodeServesNothingAfterUnansweredEndAll pauses the server, so that the outcome of EndAll is
// unknown. The node serves no copy until the server answers.
func TestNodeServesNothingAfterUnansweredEndAll(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	// The only key of a script.
	sent, ctx, arm := cancelAt(t, "\r\n1\r\n$17\r\ncoatcheck:revoked\r\n")
	s := mustOpen(t, "redis://"+node.Addr(), sent)
	id, o := newSession()
	mustCreate(t, s, id, o)
	mustWarm(t, s, id)
	must(t, node.Pause())
	arm()
	if err := s.EndAll(ctx); !errors.Is(err, driver.ErrUnknown) {
		t.Fatalf("EndAll while the server hangs: %v, want ErrUnknown", err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if _, _, err := s.Load(soon, id); err == nil {
				t.Error("a node serves a session that may be revoked")
			}
		})
	}
	all.Wait()
	must(t, node.Resume())
	eventually(t, recovery, func() error {
		_, _, err := s.Load(t.Context(), id)
		if errors.Is(err, driver.ErrNotFound) { // the server ran EndAll after all
			err = nil
		}
		return err
	})
}

// TestSessionsAreServedWhileRevocationCannotBeRestored loses the global revocation in a failover.
// The new primary refuses writes, so that no node can restore the revocation. Reads are still
// answered.
func TestSessionsAreServedWhileRevocationCannotBeRestored(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{Config: []string{"min-replicas-to-write 1"}})
	_, err := node.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	must(t, err)
	o := patient(redisstore.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), o)
	id, spec := newSession()
	mustCreate(t, s, id, spec)
	must(t, s.EndAll(t.Context()))
	id, spec = newSession()
	time.Sleep(2 * time.Millisecond)
	mustCreate(t, s, id, spec)
	must(t, node.Restart()) // it is empty and, without replicas, refuses writes
	eventually(t, recovery, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load: %v, want ErrNotFound", err)
		}
		return nil
	})
	time.Sleep(time.Second) // two checkups
	for range 5 {
		begin := time.Now() // a read that waits for the write takes the Timeout
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) || time.Since(begin) > o.Timeout/2 {
			t.Errorf("Load: %v after %v, want ErrNotFound, and no wait", err, time.Since(begin))
		}
	}
	_, err = node.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	must(t, err)
	eventually(t, anytime, func() error {
		if exists, err := node.Do("EXISTS", "coatcheck:revoked"); err != nil || exists != int64(1) {
			return errors.New("the revocation is not restored")
		}
		return nil
	})
}
