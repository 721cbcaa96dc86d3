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

func (x *expiries) hear(s *redisstore.Store) {
	s.OnExpiry(func(e driver.ExpiredSession) {
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
func shortly(t *testing.T, s *redisstore.Store, user string, d time.Duration) (driver.ID, *driver.SignIn) {
	t.Helper()
	id, in := signInOf(user, 0)
	in.Spec.Idle, in.Spec.Lifetime = d, d
	_, err := s.SignIn(t.Context(), id, in)
	ok(t, err)
	return id, in
}

func indexKey(owner driver.Hash) string {
	return fmt.Sprintf("coatcheck:{%02x%02x}:u:%s", owner[0], owner[1], owner)
}

// TestExpiredOfADeadNode: the next who visits the user's sessions tells, and cleans the index.
func TestExpiredOfADeadNode(t *testing.T) {
	few(t)
	for name, visit := range map[string]func(s *redisstore.Store, owner driver.Hash) error{
		"list": func(s *redisstore.Store, owner driver.Hash) error {
			_, err := s.Sessions(t.Context(), owner)
			return err
		},
		"end": func(s *redisstore.Store, owner driver.Hash) error {
			_, err := s.EndUser(t.Context(), owner, driver.Selection{})
			return err
		},
		"sign in": func(s *redisstore.Store, _ driver.Hash) error {
			id, in := signInOf("ada", 0)
			_, err := s.SignIn(t.Context(), id, in)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Start(t, redistest.Options{})
			url := "redis://" + node.Addr()
			dead, lives := open(t, url, redisstore.Options{}), open(t, url, redisstore.Options{})
			var told expiries
			told.hear(dead)
			told.hear(lives)
			ended, in := shortly(t, dead, "ada", 300*time.Millisecond)
			owner := in.Spec.Principal.Owner
			ok(t, lives.End(t.Context(), ended))
			for range 3 {
				shortly(t, dead, "ada", 300*time.Millisecond)
			}
			ok(t, dead.Close())
			time.Sleep(time.Second)
			if told.count() != 0 {
				t.Errorf("told of %d by nobody", told.count())
			}
			ok(t, visit(lives, owner))
			eventually(t, time.Second, func() error {
				if n := told.count(); n != 3 {
					return fmt.Errorf("told of %d sessions, want 3", n)
				}
				return nil
			})
			ok(t, visit(lives, owner))
			time.Sleep(500 * time.Millisecond)
			if n := told.count(); n != 3 {
				t.Errorf("told of %d sessions, want 3", n)
			}
			members, err := node.Do("ZRANGEBYSCORE", indexKey(owner), "1000000000000", "+inf")
			ok(t, err)
			if n := len(members.([]any)); n > 2 {
				t.Errorf("the index names %d sessions", n)
			}
		})
	}
}

// TestIndexNamesTheLiving: who ends, replaces or evicts a session removes it from its user's index in the same step: what is left there would
// be taken for expired.
func TestIndexNamesTheLiving(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	gone := func(what string, id driver.ID, in *driver.SignIn) {
		t.Helper()
		score, err := node.Do("ZSCORE", indexKey(in.Spec.Principal.Owner), id.Selector.String())
		if err != nil || score != nil {
			t.Errorf("%s: the index still names the session: %v, %v", what, score, err)
		}
	}
	enter := func(user string, limit int, from *driver.Credential) (driver.ID, *driver.SignIn) {
		t.Helper()
		id, in := signInOf(user, limit)
		in.From = from
		_, err := s.SignIn(t.Context(), id, in)
		ok(t, err)
		return id, in
	}
	id, in := enter("ada", 0, nil)
	ok(t, s.End(t.Context(), id))
	gone("End", id, in)
	id, in = enter("ada", 0, nil)
	_, err := s.EndAndReport(t.Context(), id, in.Spec.Principal.Owner)
	ok(t, err)
	gone("EndAndReport", id, in)
	id, in = enter("ada", 0, nil)
	_, err = s.EndUser(t.Context(), in.Spec.Principal.Owner, driver.Selection{Only: []driver.ID{id}}) // a revocation would refuse what follows
	ok(t, err)
	gone("EndUser", id, in)
	for range 25 { // more than a sign-in without a limit looks at
		enter("ada", 0, nil)
	}
	id, in = enter("ada", 0, nil)
	next, nextIn := enter("ada", 0, &driver.Credential{ID: id, Verifier: in.Spec.Verifier})
	gone("SignIn over the user's own", id, in)
	last, lastIn := enter("bob", 0, &driver.Credential{ID: next, Verifier: nextIn.Spec.Verifier})
	gone("SignIn over another user's", next, nextIn)
	time.Sleep(2 * time.Millisecond)
	enter("bob", 1, nil)
	gone("SignIn at the limit", last, lastIn)
}

// TestEndedIsNotExpired: what EndAll leaves in the indexes, and what an end leaves that a failover undid, did not expire.
func TestEndedIsNotExpired(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	url := "redis://" + node.Addr()
	s, other := open(t, url, redisstore.Options{}), open(t, url, redisstore.Options{})
	var told expiries
	told.hear(s)
	told.hear(other)
	_, in := shortly(t, s, "ada", time.Minute)
	owner := in.Spec.Principal.Owner
	ok(t, s.EndAll(t.Context()))
	_, err := other.Sessions(t.Context(), owner)
	ok(t, err)
	time.Sleep(2 * time.Millisecond)

	id, _ := shortly(t, s, "ada", time.Minute)
	ok(t, s.End(t.Context(), id))
	_, err = node.Do("ZADD", indexKey(owner), strconv.FormatInt(time.Now().UnixMilli(), 10), id.Selector.String()) // as before the end
	ok(t, err)
	eventually(t, 3*time.Second, func() error { // the end is repeated, there too
		score, err := node.Do("ZSCORE", indexKey(owner), id.Selector.String())
		if err != nil || score != nil {
			return fmt.Errorf("the index still names it: %v, %v", score, err)
		}
		return nil
	})
	_, err = other.Sessions(t.Context(), owner)
	ok(t, err)
	time.Sleep(600 * time.Millisecond)
	if n := told.count(); n != 0 {
		t.Errorf("told of %d sessions that were ended", n)
	}
}

// TestRevokedIsNotExpired: a revocation stands there, and who made it has not removed the sessions. Whoever comes upon them tells nobody that they
// expired.
func TestRevokedIsNotExpired(t *testing.T) {
	for _, how := range []string{"listed", "watched", "refused", "signed in"} {
		t.Run(how, func(t *testing.T) {
			few(t)
			node := redistest.Start(t, redistest.Options{})
			s := open(t, "redis://"+node.Addr(), redisstore.Options{})
			other := open(t, "redis://"+node.Addr(), redisstore.Options{})
			var told expiries
			told.hear(other)
			if how == "watched" {
				told.hear(s)
			}
			old, in := shortly(t, s, "ada", 500*time.Millisecond)
			owner := in.Spec.Principal.Owner
			time.Sleep(2 * time.Millisecond)
			created, err := node.Do("ZSCORE", indexKey(owner), old.Selector.String())
			ok(t, err)
			young, _ := shortly(t, s, "ada", time.Minute)
			_, err = node.Do("HSET", bucketKey("ada", "n"), owner.String(), created.(string)+"."+strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10))
			ok(t, err)
			if how != "refused" {
				time.Sleep(time.Second)
			}
			id, again := signInOf("ada", 1)
			switch again.RefuseExtra = how == "refused"; how {
			case "refused":
				if _, err := other.SignIn(t.Context(), id, again); !errors.Is(err, driver.ErrTooMany) {
					t.Fatalf("%v, want ErrTooMany", err)
				}
			case "signed in":
				res, err := other.SignIn(t.Context(), id, again)
				ok(t, err)
				if len(res.Evicted) != 1 || res.Evicted[0] != young {
					t.Errorf("ended: %v, want the younger session", res.Evicted)
				}
			}
			if list, err := other.Sessions(t.Context(), owner); err != nil || len(list) != 1 {
				t.Errorf("%d sessions, error %v, want 1", len(list), err)
			}
			time.Sleep(time.Second)
			if n := told.count(); n != 0 {
				t.Errorf("told of %d sessions that were revoked", n)
			}
		})
	}
}
