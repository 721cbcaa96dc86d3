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

// TestUnansweredRevocationOfAnotherUsersSessionIsNotRepeated: a user names another one's session, of the same bucket, and the server does not answer. The session goes
// on, at this process, too: nothing is repeated whose right nobody has checked.
func TestUnansweredRevocationOfAnotherUsersSessionIsNotRepeated(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := mustSignIn(t, s, "ada")
	neighbour := ownerOf("ada")
	neighbour[15]++
	must(t, node.Pause())
	if _, err := s.EndUser(t.Context(), neighbour, driver.Selection{Only: []driver.ID{id}}); !errors.Is(err, driver.ErrUnknown) {
		t.Errorf("EndUser: %v, want ErrUnknown", err)
	}
	must(t, node.Resume())
	eventually(t, recovery, func() error { return s.Touch(t.Context(), id, verifier) })
	time.Sleep(2 * time.Second) // an end is repeated after one
	must(t, s.Touch(t.Context(), id, verifier))
}

// TestRevocationHoldsWithoutIndex: somebody lost a user's index. Revoking the user ends their sessions all the same: for another node that has
// copies of them, for its writers, and for a sign-in in their place; all but the one that was to stay.
func TestRevocationHoldsWithoutIndex(t *testing.T) {
	limitParallel(t)
	eachTopology(t, func(t *testing.T, url string, do func(key string, args ...string) any) {
		a, b := mustOpen(t, url, redisstore.Options{Timeout: 10 * time.Second}), mustOpen(t, url, redisstore.Options{Timeout: 10 * time.Second})
		const user = "ada"
		var ids []driver.ID
		var verifiers []driver.Hash
		for range 4 {
			id, verifier := mustSignIn(t, a, user)
			ids, verifiers = append(ids, id), append(verifiers, verifier)
			mustWarm(t, b, id)
		}
		neighbour, theirs := mustSignIn(t, a, "bob")
		index := indexKey(ownerOf(user))
		if n := do(index, "DEL", index); n != int64(1) {
			t.Fatalf("the index is not there: %v", n)
		}
		time.Sleep(2 * time.Millisecond)
		before, _ := b.Near()
		if _, err := a.EndUser(t.Context(), ownerOf(user), driver.Selection{Except: ids[3:]}); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			mustStopServing(t, b, ids[i])
			mustBeRevoked(t, b, ids[i], verifiers[i])
			mustBeRevoked(t, a, ids[i], verifiers[i])
			id, in := newSignIn("eve", 0)
			in.From = &driver.Credential{ID: ids[i], Verifier: verifiers[i]}
			in.Carry = func(r *driver.Record) (driver.Fields, error) {
				t.Error("a sign-in takes along what a revoked session had")
				return nil, nil
			}
			if _, err := b.SignIn(t.Context(), id, in); err != nil {
				t.Error(err)
			}
		}
		mustBeAlive(t, b, ids[3], verifiers[3])
		mustBeAlive(t, a, neighbour, theirs)
		time.Sleep(2 * time.Millisecond)
		id, verifier := mustSignIn(t, b, user)
		mustBeAlive(t, a, id, verifier)
		if after, _ := b.Near(); after.Copies == 0 || before.Copies < 4 {
			t.Errorf("the near cache was not in play: %+v", after)
		}
		// Who was not to stay before does not stay now, and who was to stay does not come back.
		do(index, "DEL", index)
		ended, err := b.EndUser(t.Context(), ownerOf(user), driver.Selection{Except: []driver.ID{ids[0], id}})
		if err != nil || len(ended) != 0 {
			t.Errorf("EndUser: %v, error %v: without an index it knows of none", ended, err)
		}
		mustBeAlive(t, a, id, verifier)
		mustBeRevoked(t, a, ids[0], verifiers[0])
		mustBeRevoked(t, a, ids[3], verifiers[3])
		revocations := bucketKey(user, "n")
		if ttl := do(revocations, "PTTL", revocations).(int64); ttl < driver.MaxAgo.Milliseconds() {
			t.Errorf("the revocation is forgotten in %d ms", ttl)
		}
	})
}

// TestRevocationEndsSessionYoungerThanIndexSays: the index names a session that is younger than it says. It ends with the user's others, and to end them does not go round
// in circles.
func TestRevocationEndsSessionYoungerThanIndexSays(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	a, b := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{}), mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := mustSignIn(t, a, "ada")
	_, err := node.Do("HSET", sessionKey(id), "@created", fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))
	must(t, err)
	must(t, within(t, 2*time.Second, func() error { _, err := b.EndUser(t.Context(), ownerOf("ada"), driver.Selection{}); return err }))
	mustBeRevoked(t, b, id, verifier)
}

// TestTenThousandSessionsEndAtOnce: of a user with so many all are over at once, listed, limited and removed.
func TestTenThousandSessionsEndAtOnce(t *testing.T) {
	const user, n = "ada", 10_000
	node := redistest.Start(t, redistest.Options{})
	o := redisstore.Options{Timeout: 10 * time.Second}
	a, b := mustOpen(t, "redis://"+node.Addr(), o), mustOpen(t, "redis://"+node.Addr(), o)
	signInMany := func() (ids []driver.ID, verifiers []driver.Hash) {
		ids, verifiers = make([]driver.ID, n), make([]driver.Hash, n)
		var all sync.WaitGroup
		for worker := range 20 {
			all.Go(func() {
				for i := worker; i < n; i += 20 {
					id, in := newSignIn(user, 0)
					if _, err := a.SignIn(t.Context(), id, in); err != nil {
						t.Error(err)
						return
					}
					ids[i], verifiers[i] = id, in.Origin.Verifier
				}
			})
		}
		all.Wait()
		return ids, verifiers
	}
	listed := func(want int) {
		t.Helper()
		begin := time.Now()
		if list, err := b.Sessions(t.Context(), ownerOf(user)); err != nil || len(list) != want {
			t.Errorf("%d sessions are listed, error %v, want %d", len(list), err, want)
		}
		t.Logf("listed %d in %v", want, time.Since(begin))
	}
	ids, verifiers := signInMany()
	listed(n)
	for _, id := range ids[:100] {
		mustWarm(t, b, id)
	}
	time.Sleep(2 * time.Millisecond)

	// It stops after the first step: all are over, and the next one goes on.
	ctx, cancel := context.WithCancel(t.Context())
	stop := make(chan struct{})
	go func() { // when the revocation stands there
		defer close(stop)
		revocations := bucketKey(user, "n")
		for {
			if there, err := node.Do("EXISTS", revocations); err != nil || there == int64(1) {
				cancel()
				return
			}
		}
	}()
	ended, err := a.EndUser(ctx, ownerOf(user), driver.Selection{})
	<-stop
	if err == nil {
		t.Fatal("it was to be interrupted")
	}
	for i := 0; i < n; i += 500 {
		mustBeRevoked(t, b, ids[i], verifiers[i])
	}
	for i := range 10 {
		mustBeRevoked(t, b, ids[i], verifiers[i])
	}
	listed(0)
	if left, err := node.Do("DBSIZE"); err != nil || left.(int64) < n/2 {
		t.Errorf("%v keys are left, error %v: it was not interrupted", left, err)
	}
	begin := time.Now()
	rest, err := b.EndUser(t.Context(), ownerOf(user), driver.Selection{})
	if total := len(ended) + len(rest); err != nil || total > n || total < n-500 { // of one batch the answer was not heard
		t.Errorf("%d and then %d sessions were ended, error %v, want %d", len(ended), len(rest), err, n)
	}
	t.Logf("ended %d in %v", len(rest), time.Since(begin))
	if left, err := node.Do("DBSIZE"); err != nil || left.(int64) > 2 {
		t.Errorf("%v keys are left, error %v, want the index and the revocation", left, err)
	}

	// A limit is new: the next sign-in brings it about.
	time.Sleep(2 * time.Millisecond)
	signInMany()
	id, in := newSignIn(user, 5)
	in.Refuse = true
	if _, err := a.SignIn(t.Context(), id, in); !errors.Is(err, driver.ErrTooMany) {
		t.Errorf("SignIn: %v, want ErrTooMany", err)
	}
	listed(n)
	in.Refuse = false
	begin = time.Now()
	res, err := a.SignIn(t.Context(), id, in)
	if err != nil || len(res.Evicted) != n-4 {
		t.Fatalf("SignIn under a limit of 5: error %v, %d ended, want %d", err, len(res.Evicted), n-4)
	}
	t.Logf("a sign-in ended %d in %v", len(res.Evicted), time.Since(begin))
	listed(5)
	if slices.Contains(res.Evicted, id) {
		t.Error("a sign-in ended its own session")
	}
}

// TestLostRevocationReplyIsErrUnknown: what an end did that is not answered is not known, and nobody is told that there was no such session.
func TestLostRevocationReplyIsErrUnknown(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	p := startProxy(t, node.Addr())
	s := mustOpen(t, "redis://"+p.Addr(), redisstore.Options{})
	id, in := newSignIn("ada", 0)
	owner := in.Origin.Principal.Owner
	_, err := s.SignIn(t.Context(), id, in)
	must(t, err)
	only := driver.Selection{Only: []driver.ID{id}}
	_, err = s.EndUser(t.Context(), ownerOf("bob"), only) // the script is there
	must(t, err)
	p.loseNextReply("only")
	if ended, err := s.EndUser(t.Context(), owner, only); !errors.Is(err, driver.ErrUnknown) {
		t.Errorf("%v, %v; want ErrUnknown", ended, err)
	}
	if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("%v, want ErrNotFound", err)
	}
	if ended, err := s.EndUser(t.Context(), owner, only); err != nil || len(ended) > 0 {
		t.Errorf("again: %v, %v; want none", ended, err)
	}
}
