package redisstore_test

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// signInNeighbour signs in another user of the same bucket.
func signInNeighbour(t *testing.T, s *redisstore.Store, user string) (driver.ID, driver.Hash) {
	t.Helper()
	id, in := newSignIn(user, 0)
	in.Spec.Principal.Owner[15]++
	_, err := s.SignIn(t.Context(), id, in)
	must(t, err)
	return id, in.Spec.Verifier
}

// TestOneReadDecidesAboutAllCopies: a node has copies of 60 sessions of a user. The user is
// revoked on another node. The first node asks the server a few times, whatever it serves after
// that: revoked sessions are over, and all others are served from their copies.
func TestOneReadDecidesAboutAllCopies(t *testing.T) {
	limitParallel(t)
	server := redistest.Start(t, redistest.Options{})
	url := "redis://" + server.Addr()
	a, b := mustOpen(t, url, calm), mustOpen(t, url, calm)
	const sessions, kept = 60, 10
	ids := make([]driver.ID, sessions)
	verifiers := make([]driver.Hash, sessions)
	for i := range ids {
		ids[i], verifiers[i] = mustSignIn(t, b, "ada")
		mustWarm(t, a, ids[i])
	}
	neighbour, theirs := signInNeighbour(t, b, "ada")
	mustWarm(t, a, neighbour)
	time.Sleep(2 * time.Millisecond) // a revocation covers what was created before
	reads, near := commandCalls(t, server, "hgetall"), nearStats(t, a)
	_, err := b.EndUser(t.Context(), ownerOf("ada"), driver.Selection{Except: ids[:kept]})
	must(t, err)
	for _, id := range ids[kept:] { // then the node has learned of the revocation
		mustStopServing(t, a, id)
	}
	for i, id := range ids[:kept] {
		mustBeAlive(t, a, id, verifiers[i])
	}
	mustBeAlive(t, a, neighbour, theirs)
	time.Sleep(2 * time.Millisecond)
	id, verifier := mustSignIn(t, b, "ada")
	mustBeAlive(t, a, id, verifier)
	// mustBeAlive makes a change. EndUser reads the revocations to merge them.
	if n := commandCalls(t, server, "hgetall") - reads; n > 12 {
		t.Errorf("the server read %d hashes for %d sessions", n, sessions)
	}
	if stats := nearStats(t, a); stats.Copies < kept+1 || stats.Drops-near.Drops > sessions-kept {
		t.Errorf("the copies of sessions that were not revoked are gone: %+v, before: %+v", stats, near)
	}
}

// TestCopiesFollowEachRevocation: a user's index is lost, so a revocation removes nothing and drops
// no copy. Then the revocations alone end the sessions of which a node has copies, one revocation
// after the other.
func TestCopiesFollowEachRevocation(t *testing.T) {
	limitParallel(t)
	server := redistest.Start(t, redistest.Options{})
	url := "redis://" + server.Addr()
	a, b := mustOpen(t, url, calm), mustOpen(t, url, calm)
	var ids []driver.ID
	for range 12 {
		id, _ := mustSignIn(t, b, "ada")
		mustWarm(t, a, id)
		ids = append(ids, id)
	}
	index := indexKey(ownerOf("ada"))
	_, err := server.Do("DEL", index)
	must(t, err)
	time.Sleep(2 * time.Millisecond) // a revocation covers what was created before
	for kept := 9; kept >= 0; kept -= 3 {
		_, err := b.EndUser(t.Context(), ownerOf("ada"), driver.Selection{Except: ids[:kept]})
		must(t, err)
		mustStopServing(t, a, ids[kept+2])
		for i, id := range ids {
			if _, _, err := a.Load(t.Context(), id); (err == nil) != (i < kept) {
				t.Errorf("%d sessions are excepted, Load of number %d: %v", kept, i+1, err)
			}
		}
		if stats := nearStats(t, a); stats.Copies != len(ids) {
			t.Errorf("the node does not have all copies, so the test shows nothing: %+v", stats)
		}
	}
}

// TestLostRevocationIsForgotten: a server loses a revocation, and the process that made it is gone.
// A node that has read the revocation before then says what the server says.
func TestLostRevocationIsForgotten(t *testing.T) {
	limitParallel(t)
	server := redistest.Start(t, redistest.Options{})
	url := "redis://" + server.Addr()
	a, b := mustOpen(t, url, calm), mustOpen(t, url, calm)
	id, verifier := mustSignIn(t, b, "ada")
	mustWarm(t, a, id)
	dump, err := server.Do("DUMP", sessionKey(id))
	must(t, err)
	time.Sleep(2 * time.Millisecond) // a revocation covers what was created before
	_, err = b.EndUser(t.Context(), ownerOf("ada"), driver.Selection{})
	must(t, err)
	mustStopServing(t, a, id)
	must(t, b.Close()) // it would repeat the revocation
	_, err = server.Do("FLUSHALL")
	must(t, err)
	_, err = server.Do("RESTORE", sessionKey(id), "0", dump.(string))
	must(t, err)
	eventually(t, slack, func() error {
		_, _, err := a.Load(t.Context(), id)
		return err
	})
	mustBeAlive(t, a, id, verifier)
}

func nearStats(t *testing.T, s *redisstore.Store) driver.NearStats {
	t.Helper()
	stats, ok := s.Near()
	if !ok {
		t.Fatal("no near cache")
	}
	return stats
}
