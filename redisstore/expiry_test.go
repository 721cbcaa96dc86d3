package redisstore_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// expiries are what stores have told of.
type expiries struct {
	mu   sync.Mutex
	told []driver.ID
}

func (x *expiries) listen(s *redisstore.Store) {
	s.OnExpiry(func(e driver.Expired) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.told = append(x.told, e.ID)
	})
}

func (x *expiries) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.told)
}

// shortly signs in to a session that expires after so long.
func mustSignInFor(t *testing.T, s *redisstore.Store, user string, d time.Duration) (driver.ID, *driver.SignIn) {
	t.Helper()
	id, in := newSignIn(user, 0)
	in.Origin.Idle, in.Origin.Lifetime = d, d
	_, err := s.SignIn(t.Context(), id, in)
	must(t, err)
	return id, in
}

// TestNextVisitReportsSessionsThatExpiredUnwatched: the next who visits the user's sessions tells, and cleans the index.
func TestNextVisitReportsSessionsThatExpiredUnwatched(t *testing.T) {
	limitParallel(t)
	for name, mustUseEverything := range map[string]func(s *redisstore.Store, owner driver.Hash) error{
		"list": func(s *redisstore.Store, owner driver.Hash) error {
			_, err := s.Sessions(t.Context(), owner)
			return err
		},
		"end": func(s *redisstore.Store, owner driver.Hash) error {
			_, err := s.EndUser(t.Context(), owner, driver.Selection{})
			return err
		},
		"sign in": func(s *redisstore.Store, _ driver.Hash) error {
			id, in := newSignIn("ada", 0)
			_, err := s.SignIn(t.Context(), id, in)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Start(t, redistest.Options{})
			url := "redis://" + node.Addr()
			dead, lives := mustOpen(t, url, redisstore.Options{}), mustOpen(t, url, redisstore.Options{})
			var reported expiries
			reported.listen(dead)
			reported.listen(lives)
			ended, in := mustSignInFor(t, dead, "ada", 300*time.Millisecond)
			owner := in.Origin.Principal.Owner
			must(t, lives.End(t.Context(), ended))
			for range 3 {
				mustSignInFor(t, dead, "ada", 300*time.Millisecond)
			}
			must(t, dead.Close())
			time.Sleep(time.Second)
			if reported.count() != 0 {
				t.Errorf("told of %d by nobody", reported.count())
			}
			must(t, mustUseEverything(lives, owner))
			eventually(t, time.Second, func() error {
				if n := reported.count(); n != 3 {
					return fmt.Errorf("told of %d sessions, want 3", n)
				}
				return nil
			})
			must(t, mustUseEverything(lives, owner))
			time.Sleep(500 * time.Millisecond)
			if n := reported.count(); n != 3 {
				t.Errorf("told of %d sessions, want 3", n)
			}
			members, err := node.Do("ZRANGEBYSCORE", indexKey(owner), "1000000000000", "+inf")
			must(t, err)
			if n := len(members.([]any)); n > 2 {
				t.Errorf("the index names %d sessions", n)
			}
		})
	}
}

// TestEndedSessionLeavesIndexInSameStep: who ends, replaces or evicts a session removes it from its user's index in the same step: what is left there would
// be taken for expired.
func TestEndedSessionLeavesIndexInSameStep(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	gone := func(what string, id driver.ID, in *driver.SignIn) {
		t.Helper()
		score, err := node.Do("ZSCORE", indexKey(in.Origin.Principal.Owner), id.Selector.String())
		if err != nil || score != nil {
			t.Errorf("%s: the index still names the session: %v, %v", what, score, err)
		}
	}
	enter := func(user string, limit int, from *driver.Credential) (driver.ID, *driver.SignIn) {
		t.Helper()
		id, in := newSignIn(user, limit)
		in.From = from
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
		return id, in
	}
	id, in := enter("ada", 0, nil)
	must(t, s.End(t.Context(), id))
	gone("End", id, in)
	id, in = enter("ada", 0, nil)
	_, err := s.EndOwned(t.Context(), id, in.Origin.Principal.Owner)
	must(t, err)
	gone("EndOwned", id, in)
	id, in = enter("ada", 0, nil)
	_, err = s.EndUser(t.Context(), in.Origin.Principal.Owner, driver.Selection{Only: []driver.ID{id}}) // a revocation would refuse what follows
	must(t, err)
	gone("EndUser", id, in)
	for range 25 { // more than a sign-in without a limit looks at
		enter("ada", 0, nil)
	}
	id, in = enter("ada", 0, nil)
	next, nextIn := enter("ada", 0, &driver.Credential{ID: id, Verifier: in.Origin.Verifier})
	gone("SignIn over the user's own", id, in)
	last, lastIn := enter("bob", 0, &driver.Credential{ID: next, Verifier: nextIn.Origin.Verifier})
	gone("SignIn over another user's", next, nextIn)
	time.Sleep(2 * time.Millisecond)
	enter("bob", 1, nil)
	gone("SignIn at the limit", last, lastIn)
}

// TestEndedSessionIsNotReportedExpired: what EndAll leaves in the indexes, and what an end leaves that a failover undid, did not expire.
func TestEndedSessionIsNotReportedExpired(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	url := "redis://" + node.Addr()
	s, other := mustOpen(t, url, redisstore.Options{}), mustOpen(t, url, redisstore.Options{})
	var reported expiries
	reported.listen(s)
	reported.listen(other)
	_, in := mustSignInFor(t, s, "ada", time.Minute)
	owner := in.Origin.Principal.Owner
	must(t, s.EndAll(t.Context()))
	_, err := other.Sessions(t.Context(), owner)
	must(t, err)
	time.Sleep(2 * time.Millisecond)

	id, _ := mustSignInFor(t, s, "ada", time.Minute)
	must(t, s.End(t.Context(), id))
	_, err = node.Do("ZADD", indexKey(owner), strconv.FormatInt(time.Now().UnixMilli(), 10), id.Selector.String()) // as before the end
	must(t, err)
	eventually(t, 3*time.Second, func() error { // the end is repeated, there too
		score, err := node.Do("ZSCORE", indexKey(owner), id.Selector.String())
		if err != nil || score != nil {
			return fmt.Errorf("the index still names it: %v, %v", score, err)
		}
		return nil
	})
	_, err = other.Sessions(t.Context(), owner)
	must(t, err)
	time.Sleep(600 * time.Millisecond)
	if n := reported.count(); n != 0 {
		t.Errorf("told of %d sessions that were ended", n)
	}
}

// TestRevokedSessionIsNotReportedExpired: a revocation stands there, and who made it has not removed the sessions. Whoever comes upon them tells nobody that they
// expired.
func TestRevokedSessionIsNotReportedExpired(t *testing.T) {
	for _, how := range []string{"listed", "watched", "refused", "signed in"} {
		t.Run(how, func(t *testing.T) {
			limitParallel(t)
			node := redistest.Start(t, redistest.Options{})
			s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
			other := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
			var reported expiries
			reported.listen(other)
			if how == "watched" {
				reported.listen(s)
			}
			old, in := mustSignInFor(t, s, "ada", 500*time.Millisecond)
			owner := in.Origin.Principal.Owner
			time.Sleep(2 * time.Millisecond)
			created, err := node.Do("ZSCORE", indexKey(owner), old.Selector.String())
			must(t, err)
			young, _ := mustSignInFor(t, s, "ada", time.Minute)
			_, err = node.Do("HSET", bucketKey("ada", "n"), owner.String(), created.(string)+"."+strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10))
			must(t, err)
			if how != "refused" {
				time.Sleep(time.Second)
			}
			id, again := newSignIn("ada", 1)
			switch again.Refuse = how == "refused"; how {
			case "refused":
				if _, err := other.SignIn(t.Context(), id, again); !errors.Is(err, driver.ErrTooMany) {
					t.Fatalf("%v, want ErrTooMany", err)
				}
			case "signed in":
				res, err := other.SignIn(t.Context(), id, again)
				must(t, err)
				if len(res.Evicted) != 1 || res.Evicted[0] != young {
					t.Errorf("ended: %v, want the younger session", res.Evicted)
				}
			}
			if list, err := other.Sessions(t.Context(), owner); err != nil || len(list) != 1 {
				t.Errorf("%d sessions, error %v, want 1", len(list), err)
			}
			time.Sleep(time.Second)
			if n := reported.count(); n != 0 {
				t.Errorf("told of %d sessions that were revoked", n)
			}
		})
	}
}
