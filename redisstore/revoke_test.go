package redisstore_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestUnansweredRevocationOfAnotherUsersSessionIsNotRepeated has a user end another user's session
// of the same bucket, and the server does not answer. The store does not know that the user may end
// the session. So it must not repeat the end, and the session goes on.
func TestUnansweredRevocationOfAnotherUsersSessionIsNotRepeated(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	neighbour := ownerOf("ada")
	neighbour[15]++
	o, ctx, arm := cancelAt(t, indexKey(neighbour), "only")
	s := mustOpen(t, "redis://"+node.Addr(), o)
	id, verifier := mustSignIn(t, s, "ada")
	other, _ := mustSignIn(t, s, "bob")
	must(t, node.Pause())
	arm()
	_, err := s.EndUser(ctx, neighbour, driver.Selection{Only: []driver.ID{id}})
	if !errors.Is(err, driver.ErrUnknown) {
		t.Errorf("EndUser: %v, want ErrUnknown", err)
	}
	must(t, node.Resume())
	eventually(t, recovery, func() error { return s.Touch(t.Context(), id, verifier) })
	// The store repeats its ends in order, a second later. When it has repeated the end of another
	// session, it would also have repeated the unanswered one.
	before := commandCalls(t, node, "eval")
	must(t, s.End(t.Context(), other))
	eventually(t, anytime, func() error {
		if commandCalls(t, node, "eval") == before {
			return errors.New("the store has not repeated the end")
		}
		return nil
	})
	must(t, s.Touch(t.Context(), id, verifier))
}

// TestRevocationHoldsWithoutIndex deletes a user's index and then revokes the user. All sessions
// except one end: for a node that has copies, for writers, and for a sign-in that replaces one.
func TestRevocationHoldsWithoutIndex(t *testing.T) {
	limitParallel(t)
	eachTopology(t, func(t *testing.T, url string, do func(key string, args ...string) any) {
		o := patient(redisstore.Options{})
		a, b := mustOpen(t, url, o), mustOpen(t, url, o)
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
			t.Fatalf("DEL of the index: %v, want 1", n)
		}
		time.Sleep(2 * time.Millisecond)
		before, _ := b.Near()
		_, err := a.EndUser(t.Context(), ownerOf(user), driver.Selection{Except: ids[3:]})
		must(t, err)
		for i := range 3 {
			mustStopServing(t, b, ids[i])
			mustBeRevoked(t, b, ids[i], verifiers[i])
			mustBeRevoked(t, a, ids[i], verifiers[i])
			id, in := newSignIn("eve", 0)
			in.From = &driver.Credential{ID: ids[i], Verifier: verifiers[i]}
			in.Carry = func(r *driver.Record) (driver.Fields, error) {
				t.Error("a sign-in carries over the fields of a revoked session")
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
			t.Errorf("the near cache was not used, so the test shows nothing: %+v", after)
		}
		// Except does not restore a session that was revoked before. A session that was excepted
		// before ends now, because it is not excepted again.
		do(index, "DEL", index)
		ended, err := b.EndUser(t.Context(), ownerOf(user), driver.Selection{Except: []driver.ID{ids[0], id}})
		if err != nil || len(ended) != 0 {
			t.Errorf("EndUser: %v, error %v, want none, because there is no index", ended, err)
		}
		mustBeAlive(t, a, id, verifier)
		mustBeRevoked(t, a, ids[0], verifiers[0])
		mustBeRevoked(t, a, ids[3], verifiers[3])
		revocations := bucketKey(user, "n")
		if ttl := do(revocations, "PTTL", revocations).(int64); ttl < driver.MaxSignInTime.Milliseconds() {
			t.Errorf("the revocation expires in %d ms, want at least driver.MaxSignInTime", ttl)
		}
	})
}

// TestRevocationEndsSessionYoungerThanIndexSays makes a session younger than its entry in the
// index. The session still ends with the user's others, and EndUser returns.
func TestRevocationEndsSessionYoungerThanIndexSays(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	url, o := "redis://"+node.Addr(), patient(redisstore.Options{})
	a, b := mustOpen(t, url, o), mustOpen(t, url, o)
	id, verifier := mustSignIn(t, a, "ada")
	life, err := node.Do("HGET", sessionKey(id), "@l")
	must(t, err)
	younger := life.(string)[:22] + hexTime(time.Now().Add(time.Minute).UnixMilli()) + life.(string)[34:]
	_, err = node.Do("HSET", sessionKey(id), "@l", younger)
	must(t, err)
	must(t, within(t, 2*time.Second, func() error {
		_, err := b.EndUser(t.Context(), ownerOf("ada"), driver.Selection{})
		return err
	}))
	mustBeRevoked(t, b, id, verifier)
}

// TestTenThousandSessionsEndAtOnce lists, revokes and limits a user's ten thousand sessions. An
// interrupted EndUser ends all of them at once, and the next call deletes the rest.
func TestTenThousandSessionsEndAtOnce(t *testing.T) {
	const user, n = "ada", 10_000
	node := redistest.Start(t, redistest.Options{})
	interrupted, ctx, arm := cancelAt(t, indexKey(ownerOf(user)), "again") // removes a batch
	a := mustOpen(t, "redis://"+node.Addr(), interrupted)
	b := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
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
					ids[i], verifiers[i] = id, in.Spec.Verifier
				}
			})
		}
		all.Wait()
		return ids, verifiers
	}
	mustList := func(want int) {
		t.Helper()
		begin := time.Now()
		if list := listInPages(t, b, ownerOf(user), 100); len(list) != want {
			t.Errorf("%d sessions are listed, want %d", len(list), want)
		}
		t.Logf("listed %d in %v", want, time.Since(begin))
	}
	ids, verifiers := signInMany()
	mustList(n)
	for _, id := range ids[:100] {
		mustWarm(t, b, id)
	}
	time.Sleep(2 * time.Millisecond)

	// EndUser is interrupted after its first step. All sessions have ended, and the next call goes
	// on.
	arm()
	ended, err := a.EndUser(ctx, ownerOf(user), driver.Selection{})
	if err == nil || ctx.Err() == nil {
		t.Fatalf("EndUser: %v, want an error, because it was interrupted", err)
	}
	for i := 0; i < n; i += 500 {
		mustBeRevoked(t, b, ids[i], verifiers[i])
	}
	for i := range 10 {
		mustBeRevoked(t, b, ids[i], verifiers[i])
	}
	mustList(0)
	if left, err := node.Do("DBSIZE"); err != nil || left.(int64) < n/2 {
		t.Errorf("%v keys are left, error %v, want at least %d: EndUser was not interrupted", left, err, n/2)
	}
	begin := time.Now()
	rest, err := b.EndUser(t.Context(), ownerOf(user), driver.Selection{})
	// The interruption may lose the reply for one batch of 500.
	if total := len(ended) + len(rest); err != nil || total > n || total < n-500 {
		t.Errorf("EndUser reports %d and then %d sessions, error %v, want %d", len(ended), len(rest), err, n)
	}
	t.Logf("ended %d in %v", len(rest), time.Since(begin))
	if left, err := node.Do("EVAL", keysWithoutMarkers, "0"); err != nil || len(left.([]any)) > 2 {
		t.Errorf("%v keys are left, error %v, want at most the index and the revocation", left, err)
	}

	// The limit is new. The next sign-in enforces it.
	time.Sleep(2 * time.Millisecond)
	signInMany()
	id, in := newSignIn(user, 5)
	in.RefuseExtra = true
	if _, err := a.SignIn(t.Context(), id, in); !errors.Is(err, driver.ErrTooMany) {
		t.Errorf("SignIn with Refuse: %v, want ErrTooMany", err)
	}
	mustList(n)
	in.RefuseExtra = false
	begin = time.Now()
	res, err := a.SignIn(t.Context(), id, in)
	if err != nil || len(res.Evicted) != n-4 {
		t.Fatalf("SignIn with a limit of 5: error %v, %d evicted, want %d", err, len(res.Evicted), n-4)
	}
	t.Logf("SignIn evicted %d in %v", len(res.Evicted), time.Since(begin))
	mustList(5)
	if slices.Contains(res.Evicted, id) {
		t.Error("SignIn evicted its own session")
	}
}

// TestLostRevocationReplyIsErrUnknown loses the reply to EndUser. EndUser returns ErrUnknown, and
// does not claim that there was no such session.
func TestLostRevocationReplyIsErrUnknown(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	p := startProxy(t, node.Addr())
	s := mustOpen(t, "redis://"+p.Addr(), patient(redisstore.Options{}))
	id, in := newSignIn("ada", 0)
	owner := in.Spec.Principal.Owner
	_, err := s.SignIn(t.Context(), id, in)
	must(t, err)
	only := driver.Selection{Only: []driver.ID{id}}
	_, err = s.EndUser(t.Context(), ownerOf("bob"), only) // loads the script
	must(t, err)
	p.loseNextReply("only")
	if ended, err := s.EndUser(t.Context(), owner, only); !errors.Is(err, driver.ErrUnknown) {
		t.Errorf("EndUser without a reply: %v, %v; want ErrUnknown", ended, err)
	}
	if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("LoadFresh after EndUser: %v, want ErrNotFound", err)
	}
	if ended, err := s.EndUser(t.Context(), owner, only); err != nil || len(ended) > 0 {
		t.Errorf("EndUser again: %v, %v; want none", ended, err)
	}
}
