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

// expiries records the sessions that stores report as expired.
type expiries struct {
	mu  sync.Mutex
	ids []driver.ID
}

func (x *expiries) listen(s *redisstore.Store) {
	s.OnExpiry(func(e driver.ExpiredSession) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.ids = append(x.ids, e.ID)
	})
}

func (x *expiries) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.ids)
}

// mustSignInFor signs a user in to a session that expires after d.
func mustSignInFor(t *testing.T, s *redisstore.Store, user string, d time.Duration) (driver.ID, *driver.SignIn) {
	t.Helper()
	id, in := newSignIn(user, 0)
	in.Spec.Idle, in.Spec.Lifetime = d, d
	_, err := s.SignIn(t.Context(), id, in)
	must(t, err)
	return id, in
}

// mustExpireAfter calls prepare, which stores sessions with this lifetime and returns their keys.
// If one of them has expired before prepare returns, the machine was slow: the function then calls
// prepare again, with a longer lifetime. It returns when all of the last call have expired.
func mustExpireAfter(t *testing.T, node *redistest.Node, prepare func(life time.Duration) (keys []string)) {
	t.Helper()
	exist := func(keys []string) int64 {
		n, err := node.Do(append([]string{"EXISTS"}, keys...)...)
		must(t, err)
		return n.(int64)
	}
	for life := 500 * time.Millisecond; ; life *= 2 {
		keys := prepare(life)
		if exist(keys) < int64(len(keys)) {
			continue
		}
		eventually(t, life+anytime, func() error {
			if n := exist(keys); n > 0 {
				return fmt.Errorf("%d sessions have not expired", n)
			}
			return nil
		})
		return
	}
}

// TestNextVisitReportsSessionsThatExpiredUnwatched closes the store that would report an expiry.
// The next store that visits the user's sessions reports each expiry once, and cleans the index.
func TestNextVisitReportsSessionsThatExpiredUnwatched(t *testing.T) {
	limitParallel(t)
	for name, visit := range map[string]func(s *redisstore.Store, user string) error{
		"list": func(s *redisstore.Store, user string) error {
			_, err := s.Sessions(t.Context(), ownerOf(user), driver.SessionCursor{}, 100)
			return err
		},
		"end": func(s *redisstore.Store, user string) error {
			_, err := s.EndUser(t.Context(), ownerOf(user), driver.Selection{})
			return err
		},
		"sign in": func(s *redisstore.Store, user string) error {
			id, in := newSignIn(user, 0)
			_, err := s.SignIn(t.Context(), id, in)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Start(t, redistest.Options{})
			url, o := "redis://"+node.Addr(), patient(redisstore.Options{})
			visitor := mustOpen(t, url, o)
			user, keys, reported := "", []string(nil), (*expiries)(nil)
			mustExpireAfter(t, node, func(life time.Duration) []string {
				user, keys, reported = fmt.Sprint("ada", life), nil, new(expiries)
				closed := mustOpen(t, url, o)
				reported.listen(closed)
				ended, _ := mustSignInFor(t, closed, user, life)
				must(t, visitor.End(t.Context(), ended))
				for range 3 {
					id, _ := mustSignInFor(t, closed, user, life)
					keys = append(keys, sessionKey(id))
				}
				must(t, closed.Close())
				return keys
			})
			reported.listen(visitor)
			time.Sleep(time.Second) // an open store reports an expiry within a second
			if reported.count() != 0 {
				t.Errorf("%d sessions were reported before the visit, want 0", reported.count())
			}
			must(t, visit(visitor, user))
			eventually(t, anytime, func() error {
				if n := reported.count(); n != 3 {
					return fmt.Errorf("%d sessions were reported, want 3", n)
				}
				return nil
			})
			must(t, visit(visitor, user))
			time.Sleep(500 * time.Millisecond)
			if n := reported.count(); n != 3 {
				t.Errorf("%d sessions were reported after the second visit, want 3", n)
			}
			members, err := node.Do("ZRANGEBYSCORE", indexKey(ownerOf(user)), "1000000000000", "+inf")
			must(t, err)
			if n := len(members.([]any)); n > 2 {
				t.Errorf("the index names %d sessions, want at most 2", n)
			}
		})
	}
}

// TestEndedSessionLeavesIndexInSameStep ends, replaces and evicts sessions. Each leaves its user's
// index in the same step. Otherwise a store would report it as expired.
func TestEndedSessionLeavesIndexInSameStep(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	mustLeaveIndex := func(what string, id driver.ID, in *driver.SignIn) {
		t.Helper()
		score, err := node.Do("ZSCORE", indexKey(in.Spec.Principal.Owner), id.Selector.String())
		if err != nil || score != nil {
			t.Errorf("%s: the index still names the session: %v, %v", what, score, err)
		}
	}
	signIn := func(user string, limit int, from *driver.Credential) (driver.ID, *driver.SignIn) {
		t.Helper()
		id, in := newSignIn(user, limit)
		in.From = from
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
		return id, in
	}
	id, in := signIn("ada", 0, nil)
	must(t, s.End(t.Context(), id))
	mustLeaveIndex("End", id, in)
	id, in = signIn("ada", 0, nil)
	_, err := s.EndAndReport(t.Context(), id, in.Spec.Principal.Owner, driver.Attempt{1})
	must(t, err)
	mustLeaveIndex("EndAndReport", id, in)
	id, in = signIn("ada", 0, nil)
	// End this session only. A revocation would refuse the sign-ins that follow.
	_, err = s.EndUser(t.Context(), in.Spec.Principal.Owner, driver.Selection{Only: []driver.ID{id}})
	must(t, err)
	mustLeaveIndex("EndUser", id, in)
	for range 25 { // more sessions than a sign-in without a limit reads
		signIn("ada", 0, nil)
	}
	id, in = signIn("ada", 0, nil)
	next, nextIn := signIn("ada", 0, &driver.Credential{ID: id, Verifier: in.Spec.Verifier})
	mustLeaveIndex("SignIn over the user's own", id, in)
	last, lastIn := signIn("bob", 0, &driver.Credential{ID: next, Verifier: nextIn.Spec.Verifier})
	mustLeaveIndex("SignIn over another user's", next, nextIn)
	time.Sleep(2 * time.Millisecond)
	signIn("bob", 1, nil)
	mustLeaveIndex("SignIn at the limit", last, lastIn)
}

// TestEndedSessionIsNotReportedExpired ends sessions that stay in an index: EndAll leaves them
// there, and so does a failover that loses the removal. No store reports them as expired.
func TestEndedSessionIsNotReportedExpired(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	url, o := "redis://"+node.Addr(), patient(redisstore.Options{})
	s, other := mustOpen(t, url, o), mustOpen(t, url, o)
	var reported expiries
	reported.listen(s)
	reported.listen(other)
	_, in := mustSignInFor(t, s, "ada", time.Minute)
	owner := in.Spec.Principal.Owner
	must(t, s.EndAll(t.Context()))
	_, err := other.Sessions(t.Context(), owner, driver.SessionCursor{}, 100)
	must(t, err)
	time.Sleep(2 * time.Millisecond)

	id, _ := mustSignInFor(t, s, "ada", time.Minute)
	must(t, s.End(t.Context(), id))
	// Undo the removal from the index, as a failover may do.
	_, err = node.Do("ZADD", indexKey(owner), strconv.FormatInt(time.Now().UnixMilli(), 10), id.Selector.String())
	must(t, err)
	eventually(t, anytime, func() error { // the store repeats the end, and so the removal
		score, err := node.Do("ZSCORE", indexKey(owner), id.Selector.String())
		if err != nil || score != nil {
			return fmt.Errorf("the index still names the session: %v, %v", score, err)
		}
		return nil
	})
	_, err = other.Sessions(t.Context(), owner, driver.SessionCursor{}, 100)
	must(t, err)
	time.Sleep(600 * time.Millisecond)
	if n := reported.count(); n != 0 {
		t.Errorf("%d ended sessions were reported as expired, want 0", n)
	}
}

// TestRevokedSessionIsNotReportedExpired stores a revocation without deleting the revoked sessions.
// A store that finds them does not report them as expired.
func TestRevokedSessionIsNotReportedExpired(t *testing.T) {
	for _, how := range []string{"listed", "watched", "refused", "signed in"} {
		t.Run(how, func(t *testing.T) {
			limitParallel(t)
			node := redistest.Start(t, redistest.Options{})
			o := patient(redisstore.Options{})
			other := mustOpen(t, "redis://"+node.Addr(), o)
			var young driver.ID
			user, reported := "", (*expiries)(nil)
			prepare := func(life time.Duration) []string {
				s := mustOpen(t, "redis://"+node.Addr(), o)
				user, reported = fmt.Sprint("ada", life), new(expiries)
				if how == "watched" {
					reported.listen(s)
				}
				old, in := mustSignInFor(t, s, user, life)
				time.Sleep(2 * time.Millisecond)
				owner := in.Spec.Principal.Owner
				created, err := node.Do("ZSCORE", indexKey(owner), old.Selector.String())
				must(t, err)
				if created == nil {
					return []string{sessionKey(old)} // it has expired already
				}
				young, _ = mustSignInFor(t, s, user, time.Hour)
				since, err := strconv.ParseInt(created.(string), 10, 64)
				must(t, err)
				revocation := hexTime(since) + hexTime(time.Now().Add(time.Hour).UnixMilli())
				_, err = node.Do("HSET", bucketKey(user, "n"), owner.String(), revocation)
				must(t, err)
				return []string{sessionKey(old)}
			}
			if how == "refused" {
				prepare(time.Hour)
			} else {
				mustExpireAfter(t, node, prepare)
			}
			reported.listen(other)
			owner := ownerOf(user)
			id, again := newSignIn(user, 1)
			switch again.RefuseExtra = how == "refused"; how {
			case "refused":
				if _, err := other.SignIn(t.Context(), id, again); !errors.Is(err, driver.ErrTooMany) {
					t.Fatalf("SignIn over the limit: %v, want ErrTooMany", err)
				}
			case "signed in":
				res, err := other.SignIn(t.Context(), id, again)
				must(t, err)
				if len(res.Evicted) != 1 || res.Evicted[0] != young {
					t.Errorf("SignIn evicted %v, want the younger session", res.Evicted)
				}
			}
			if list, err := other.Sessions(t.Context(), owner, driver.SessionCursor{}, 100); err != nil || len(list) != 1 {
				t.Errorf("Sessions returns %d, error %v, want 1", len(list), err)
			}
			time.Sleep(time.Second)
			if n := reported.count(); n != 0 {
				t.Errorf("%d revoked sessions were reported as expired, want 0", n)
			}
		})
	}
}
