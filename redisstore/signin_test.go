package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestPlainSignInTakesOneScript signs in without an old session and without a limit. That takes one
// script and one read of the global revocation. Some sign-ins also read the index, so that it stays
// short although nobody lists it.
func TestPlainSignInTakesOneScript(t *testing.T) {
	limitParallel(t)
	const signIns = 400
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	commands := []string{"evalsha", "get", "info", "zrandmember"}
	before := map[string]int{}
	for _, c := range commands {
		before[c] = commandCalls(t, node, c)
	}
	for range signIns {
		id, in := newSignIn("ada", 0)
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
		_, err = node.Do("DEL", sessionKey(id)) // as if the session had expired
		must(t, err)
	}
	calls := map[string]int{}
	for _, c := range commands {
		calls[c] = commandCalls(t, node, c) - before[c]
	}
	// Checkups also read the global revocation, each beside an INFO. The store repeats an end some
	// times. About 50 reads of the index are due.
	if calls["evalsha"] > signIns+signIns/10 || calls["get"] > signIns+calls["info"] ||
		calls["zrandmember"] == 0 || calls["zrandmember"] > signIns/3 {
		t.Errorf("%d sign-ins took %v commands, want one script each and some reads of the index", signIns, calls)
	}
	_, in := newSignIn("ada", 0)
	n, err := node.Do("ZCARD", indexKey(in.Spec.Principal.Owner))
	must(t, err)
	if n := n.(int64); n > signIns/2 {
		t.Errorf("the index has %d entries, want at most half of the %d expired sessions", n, signIns)
	}
}

// TestSignInRemovesExpiredEntriesOfAnyAge leaves old live sessions in front of younger expired
// ones. Sign-ins still remove the expired ones from the index.
func TestSignInRemovesExpiredEntriesOfAnyAge(t *testing.T) {
	limitParallel(t)
	const stay, signIns = 40, 600
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	for i := range stay + signIns {
		id, in := newSignIn("ada", 0)
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
		if i >= stay {
			_, err = node.Do("DEL", sessionKey(id)) // as if the session had expired
			must(t, err)
		}
	}
	_, in := newSignIn("ada", 0)
	n, err := node.Do("ZCARD", indexKey(in.Spec.Principal.Owner))
	must(t, err)
	if n := n.(int64); n > stay+signIns/2 {
		t.Errorf("the index has %d entries, want at most %d for %d live sessions", n, stay+signIns/2, stay)
	}
}

// TestSignInWithListenerReadsIndexEachTime signs in on a store that reports expired sessions.
func TestSignInWithListenerReadsIndexEachTime(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	var reported expiries
	reported.listen(s)
	before := commandCalls(t, node, "zrandmember")
	for range 20 {
		id, in := newSignIn("ada", 0)
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
	}
	if n := commandCalls(t, node, "zrandmember") - before; n < 20 {
		t.Errorf("20 sign-ins read the index %d times, want at least 20", n)
	}
}

// TestSignInReadsGlobalRevocationFirst signs in with an old session, with a limit, and on a node
// without a near cache. Each reads the global revocation before the sign-in, and again after it.
func TestSignInReadsGlobalRevocationFirst(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	url := "redis://" + node.Addr()
	for name, c := range map[string]struct {
		options redisstore.Options
		limit   int
		leave   bool
	}{
		"limit":         {limit: 5},
		"leave":         {leave: true},
		"no near cache": {options: redisstore.Options{NearCache: -1}},
	} {
		s := mustOpen(t, url, patient(c.options))
		id, in := newSignIn("ada", c.limit)
		if c.leave {
			in.From = mustCreateAnonymous(t, s, 1)
		}
		before := commandCalls(t, node, "get")
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
		if n := commandCalls(t, node, "get") - before; n < 2 {
			t.Errorf("%s: SignIn read the global revocation %d times, want 2", name, n)
		}
		must(t, s.Close())
	}
}

// TestSignInSurvivesCrashAfterEachScript kills a process after each script of a sign-in. Another
// process then repeats the sign-in, which takes effect once. Or the visitor goes on with the old
// session, and what the killed process left counts for a minute.
func TestSignInSurvivesCrashAfterEachScript(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	other := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	scripts := []string{"leave", "signin", "left"}
	for done := range scripts {
		for _, same := range []bool{false, true} { // whether the old session is of the same user
			for _, repeated := range []bool{false, true} {
				after := "nothing"
				if done > 0 {
					after = scripts[done-1]
				}
				t.Run(fmt.Sprintf("after %s, same user %v, repeated %v", after, same, repeated), func(t *testing.T) {
					t.Parallel()
					c := crash{t, fmt.Sprint("ada ", done, same, repeated), node, other}
					from := c.mustCreateOldSession(same)
					id, in := newSignIn(c.user, 0)
					in.From = from
					c.mustCrashInSignIn(done, id, in)
					if repeated {
						c.mustRepeatSignIn(id, in)
					} else {
						c.mustGoOnWithOldSession(done, same, id, in)
					}
				})
			}
		}
	}
}

// crash is a sign-in whose process is killed, and another process.
type crash struct {
	t     *testing.T
	user  string
	node  *redistest.Node
	other *redisstore.Store
}

// mustCreateOldSession stores a session whose counter is 3. The session is anonymous, or the
// user's.
func (c *crash) mustCreateOldSession(signedIn bool) *driver.Credential {
	from := mustCreateAnonymous(c.t, c.other, 3)
	if !signedIn {
		return from
	}
	id, in := newSignIn(c.user, 0)
	in.From = from
	_, err := c.other.SignIn(c.t.Context(), id, in)
	must(c.t, err)
	must(c.t, c.other.Touch(c.t.Context(), id, in.Spec.Verifier))
	return &driver.Credential{ID: id, Verifier: in.Spec.Verifier}
}

// mustCrashInSignIn signs in with a process that is killed when the given number of scripts is
// done.
func (c *crash) mustCrashInSignIn(done int, id driver.ID, in *driver.SignIn) {
	c.t.Helper()
	p := startProxy(c.t, c.node.Addr())
	s := mustOpen(c.t, "redis://"+p.Addr(), patient(redisstore.Options{}))
	warm, first := newSignIn("warm "+c.user, 0) // loads the scripts
	first.From = mustCreateAnonymous(c.t, s, 1)
	_, err := s.SignIn(c.t.Context(), warm, first)
	must(c.t, err)
	p.dieAfter(int64(done))
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	go func() { // nobody waits for a process that was killed
		for !p.dead.Load() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err = s.SignIn(ctx, id, in)
	if done < 2 && err == nil {
		c.t.Error("SignIn succeeds after its process was killed")
	}
	s.Close()
	if !p.dead.Load() {
		c.t.Fatal("the process was not killed")
	}
}

// counter returns the counter of a session, or "" if there is no session.
func (c *crash) counter(id driver.ID) string {
	c.t.Helper()
	r, _, err := c.other.Load(c.t.Context(), id)
	if err != nil {
		if !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, driver.ErrMoved) {
			c.t.Error(err)
		}
		return ""
	}
	n, _ := r.Fields.Get("n")
	return string(n)
}

// liveSessions returns how many sessions the user has.
func (c *crash) liveSessions() int {
	c.t.Helper()
	live, err := c.other.Sessions(c.t.Context(), ownerOf(c.user), driver.SessionCursor{}, 100)
	must(c.t, err)
	return len(live)
}

// mustRepeatSignIn repeats the sign-in several times. It takes effect once.
func (c *crash) mustRepeatSignIn(id driver.ID, in *driver.SignIn) {
	for range 3 {
		_, err := c.other.SignIn(c.t.Context(), id, in)
		must(c.t, err)
	}
	if _, _, err := c.other.Load(c.t.Context(), in.From.ID); !errors.Is(err, driver.ErrMoved) {
		c.t.Errorf("Load of the old session: %v, want ErrMoved", err)
	}
	if n := c.counter(id); n != "3" || c.liveSessions() != 1 {
		c.t.Errorf("the new session's counter is %q, want 3; the user has %d sessions, want 1", n, c.liveSessions())
	}
}

// mustGoOnWithOldSession goes on with the old session's token.
func (c *crash) mustGoOnWithOldSession(done int, same bool, id driver.ID, in *driver.SignIn) {
	if done == 2 { // the new session is stored, but no browser has its token
		if ttl, err := c.node.Do("PTTL", sessionKey(id)); err != nil || ttl.(int64) <= 0 || ttl.(int64) > 60_000 {
			c.t.Errorf("the new session lives for %v ms (%v), want at most a minute", ttl, err)
		}
		if same { // the script has also closed the old session, as if only the response was lost
			_, _, err := c.other.Load(c.t.Context(), in.From.ID)
			if n := c.liveSessions(); !errors.Is(err, driver.ErrMoved) || n != 1 {
				c.t.Errorf("Load of the old session: %v, want ErrMoved; the user has %d sessions, want 1", err, n)
			}
			return
		}
	} else if n := c.counter(id); n != "" {
		c.t.Errorf("there is a new session, with the counter %q", n)
	}
	if n := c.counter(in.From.ID); n != "3" {
		c.t.Errorf("the old session's counter is %q, want 3", n)
	}
	add := incrementWith(in.From.Verifier)
	if done > 0 {
		if _, err := c.other.Apply(c.t.Context(), in.From.ID, add); !errors.Is(err, driver.ErrMoved) {
			c.t.Errorf("Apply during the sign-in's lease: %v, want ErrMoved", err)
		}
	}
	eventually(c.t, 10*time.Second, func() error {
		_, err := c.other.Apply(c.t.Context(), in.From.ID, add)
		return err
	})
	if n := c.counter(in.From.ID); n != "4" {
		c.t.Errorf("the old session's counter is %q, want 4", n)
	}
	again, next := newSignIn(c.user, 1)
	next.From = in.From
	res, err := c.other.SignIn(c.t.Context(), again, next)
	must(c.t, err)
	if n := c.counter(again); n != "4" || c.liveSessions() != 1 || len(res.Evicted) != done/2 {
		c.t.Errorf("after the next sign-in: counter %q, want 4; %d sessions, want 1; evicted %v, want %d",
			n, c.liveSessions(), res.Evicted, done/2)
	}
}

// TestInterruptedSignInLosesNothing stores what a sign-in leaves that stops after a step. The cart
// is not lost, and nothing counts toward the limit for long.
func TestInterruptedSignInLosesNothing(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{NearCache: -1}))
	do := func(args ...string) any {
		t.Helper()
		v, err := node.Do(args...)
		must(t, err)
		return v
	}
	add := func(c *driver.Credential) error {
		_, err := s.Apply(t.Context(), c.ID, incrementWith(c.Verifier))
		return err
	}

	t.Run("after the old session was closed", func(t *testing.T) {
		from := mustCreateAnonymous(t, s, 3)
		now, somebody := time.Now().UnixMilli(), driver.HashOf([]byte("somebody")).String()
		do("EVAL", markForSignIn, "1", sessionKey(from.ID), somebody, hexTime(now+60_000))
		if err := add(from); !errors.Is(err, driver.ErrMoved) {
			t.Errorf("Apply during a sign-in: %v, want ErrMoved", err)
		}
		id, in := newSignIn("ada", 0)
		in.From = from
		if _, err := s.SignIn(t.Context(), id, in); err != nil {
			t.Errorf("another SignIn during a sign-in: %v", err)
		}
		if r, _, err := s.Load(t.Context(), id); err != nil || len(r.Fields) != 0 {
			t.Errorf("the second sign-in's session is %v, error %v, want no fields", r, err)
		}
		// The lease expires.
		do("EVAL", markForSignIn, "1", sessionKey(from.ID), somebody, hexTime(now-1))
		if err := add(from); err != nil {
			t.Errorf("Apply after the lease: %v", err)
		}
		if r, _, err := s.Load(t.Context(), from.ID); err != nil {
			t.Error(err)
		} else if n, _ := r.Fields.Get("n"); string(n) != "4" {
			t.Errorf("the cart has %q, want 4", n)
		}
	})

	t.Run("after the new session was stored", func(t *testing.T) {
		from := mustCreateAnonymous(t, s, 3)
		id, in := newSignIn("bob", 1)
		in.From = from
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
		if ttl, _ := do("PTTL", sessionKey(id)).(int64); ttl < 3_000_000 {
			t.Errorf("the new session lives for %d ms before its first use, want an hour", ttl)
		}
	})

	t.Run("repeated", func(t *testing.T) {
		from := mustCreateAnonymous(t, s, 3)
		id, in := newSignIn("eve", 2)
		in.From = from
		for range 3 {
			_, err := s.SignIn(t.Context(), id, in)
			must(t, err)
		}
		live, err := s.Sessions(t.Context(), in.Spec.Principal.Owner, driver.SessionCursor{}, 100)
		if err != nil || len(live) != 1 {
			t.Errorf("Sessions returns %d, error %v, want 1", len(live), err)
		}
	})
}
