package redisstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestPlainSignInTakesOneScript: a sign-in with no session before it and no limit is a script, and the reading of when everybody was revoked last; the index
// is read now and then, and stays short though nobody lists it.
func TestPlainSignInTakesOneScript(t *testing.T) {
	limitParallel(t)
	const signIns = 400
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	commands := []string{"evalsha", "get", "zrandmember"}
	before := map[string]int{}
	for _, c := range commands {
		before[c] = commandCalls(t, node, c)
	}
	for range signIns {
		id, in := newSignIn("ada", 0)
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
		_, err = node.Do("DEL", sessionKey(id)) // as if it had expired
		must(t, err)
	}
	calls := map[string]int{}
	for _, c := range commands {
		calls[c] = commandCalls(t, node, c) - before[c]
	}
	// A checkup reads that time, too, twice a second. Of the readings of the index some 50 are due.
	if calls["evalsha"] > signIns+1 || calls["get"] > signIns*3/2 || calls["zrandmember"] == 0 || calls["zrandmember"] > signIns/3 {
		t.Errorf("%d sign-ins took %v", signIns, calls)
	}
	_, in := newSignIn("ada", 0)
	n, err := node.Do("ZCARD", indexKey(in.Origin.Principal.Owner))
	must(t, err)
	if n := n.(int64); n > signIns/2 {
		t.Errorf("the index has %d entries, and none of the %d sessions is there", n, signIns)
	}
}

// TestSignInRemovesExpiredEntriesOfAnyAge: old sessions that live on do not hide the younger ones that are gone.
func TestSignInRemovesExpiredEntriesOfAnyAge(t *testing.T) {
	limitParallel(t)
	const stay, signIns = 40, 600
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	for i := range stay + signIns {
		id, in := newSignIn("ada", 0)
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
		if i >= stay {
			_, err = node.Do("DEL", sessionKey(id)) // as if it had expired
			must(t, err)
		}
	}
	_, in := newSignIn("ada", 0)
	n, err := node.Do("ZCARD", indexKey(in.Origin.Principal.Owner))
	must(t, err)
	if n := n.(int64); n > stay+signIns/2 {
		t.Errorf("the index has %d entries, and %d sessions are there", n, stay)
	}
}

// TestSignInWithListenerReadsIndexEachTime: who tells of sessions that expired reads the index each time.
func TestSignInWithListenerReadsIndexEachTime(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	var reported expiries
	reported.listen(s)
	before := commandCalls(t, node, "zrandmember")
	for range 20 {
		id, in := newSignIn("ada", 0)
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
	}
	if n := commandCalls(t, node, "zrandmember") - before; n < 20 {
		t.Errorf("20 sign-ins read the index %d times", n)
	}
}

// TestSignInReadsGlobalRevocationFirst: a sign-in that would leave a session, or end one for the limit, and a node that is told of nothing, ask before they begin
// whether everybody was revoked.
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
		s := mustOpen(t, url, c.options)
		id, in := newSignIn("ada", c.limit)
		if c.leave {
			in.From = mustCreateAnonymous(t, s, 1)
		}
		before := commandCalls(t, node, "get")
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
		if n := commandCalls(t, node, "get") - before; n < 2 {
			t.Errorf("%s: the time was read %d times, want 2", name, n)
		}
		must(t, s.Close())
	}
}

// TestSignInSurvivesCrashAfterEachScript: a process is dead after each of the scripts of a sign-in, and the visitor comes to another one. Either
// the visitor goes on with what they had, and what the dead one left counts for a minute; or the sign-in is repeated, and done once.
func TestSignInSurvivesCrashAfterEachScript(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	other := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	scripts := []string{"leave", "signin", "left"}
	for done := range scripts {
		for _, same := range []bool{false, true} { // the same user had signed in before
			for _, repeated := range []bool{false, true} {
				after := "nothing"
				if done > 0 {
					after = scripts[done-1]
				}
				t.Run(fmt.Sprintf("after %s, same user %v, repeated %v", after, same, repeated), func(t *testing.T) {
					t.Parallel()
					d := dying{t, fmt.Sprint("ada ", done, same, repeated), node, other}
					from := d.visitor(same)
					id, in := newSignIn(d.user, 0)
					in.From = from
					d.signsIn(done, id, in)
					if repeated {
						d.repeats(id, in)
					} else {
						d.goesOn(done, same, id, in)
					}
				})
			}
		}
	}
}

type dying struct {
	t     *testing.T
	user  string
	node  *redistest.Node
	other *redisstore.Store
}

// visitor has a session with 3 in it.
func (d *dying) visitor(mustSignIn bool) *driver.Credential {
	from := mustCreateAnonymous(d.t, d.other, 3)
	if !mustSignIn {
		return from
	}
	id, in := newSignIn(d.user, 0)
	in.From = from
	_, err := d.other.SignIn(d.t.Context(), id, in)
	must(d.t, err)
	must(d.t, d.other.Touch(d.t.Context(), id, in.Origin.Verifier))
	return &driver.Credential{ID: id, Verifier: in.Origin.Verifier}
}

// signsIn signs in by a process that dies when so many scripts have run.
func (d *dying) signsIn(done int, id driver.ID, in *driver.SignIn) {
	d.t.Helper()
	p := startProxy(d.t, d.node.Addr())
	s := mustOpen(d.t, "redis://"+p.Addr(), redisstore.Options{Timeout: time.Second})
	warm, first := newSignIn("warm "+d.user, 0) // the scripts are there
	first.From = mustCreateAnonymous(d.t, s, 1)
	_, err := s.SignIn(d.t.Context(), warm, first)
	must(d.t, err)
	p.dieAfter(int64(done))
	_, err = s.SignIn(d.t.Context(), id, in)
	if done < 2 && err == nil {
		d.t.Error("the sign-in went on after the end of its process")
	}
	s.Close()
	if !p.dead.Load() {
		d.t.Fatal("the process did not die")
	}
}

// n returns what a session has in n, "" if it is none.
func (d *dying) n(id driver.ID) string {
	d.t.Helper()
	r, _, err := d.other.Load(d.t.Context(), id)
	if err != nil {
		if !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, driver.ErrMoved) {
			d.t.Error(err)
		}
		return ""
	}
	n, _ := r.Fields.Get("n")
	return string(n)
}

func (d *dying) live() int {
	d.t.Helper()
	live, err := d.other.Sessions(d.t.Context(), driver.HashOf([]byte(d.user)))
	must(d.t, err)
	return len(live)
}

// repeats does the same again, as often as one likes.
func (d *dying) repeats(id driver.ID, in *driver.SignIn) {
	for range 3 {
		_, err := d.other.SignIn(d.t.Context(), id, in)
		must(d.t, err)
	}
	if _, _, err := d.other.Load(d.t.Context(), in.From.ID); !errors.Is(err, driver.ErrMoved) {
		d.t.Errorf("the session before: %v, want ErrMoved", err)
	}
	if n := d.n(id); n != "3" || d.live() != 1 {
		d.t.Errorf("%q came along, want 3; the user has %d sessions, want 1", n, d.live())
	}
}

// goesOn is the visitor with the old cookie.
func (d *dying) goesOn(done int, same bool, id driver.ID, in *driver.SignIn) {
	if done == 2 { // what nobody has a token of lives for a minute
		if ttl, err := d.node.Do("PTTL", sessionKey(id)); err != nil || ttl.(int64) <= 0 || ttl.(int64) > 60_000 {
			d.t.Errorf("the new session lives for %v ms (%v), want at most a minute", ttl, err)
		}
		if same { // its script has closed the old one, too: as if the response alone was lost
			if _, _, err := d.other.Load(d.t.Context(), in.From.ID); !errors.Is(err, driver.ErrMoved) || d.live() != 1 {
				d.t.Errorf("the session before: %v, want ErrMoved; the user has %d", err, d.live())
			}
			return
		}
	} else if n := d.n(id); n != "" {
		d.t.Errorf("there is a new session with %q", n)
	}
	if n := d.n(in.From.ID); n != "3" {
		d.t.Errorf("the visitor has %q, want 3", n)
	}
	add := &driver.Change{Verifier: in.From.Verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
	if done > 0 {
		if _, err := d.other.Apply(d.t.Context(), in.From.ID, add); !errors.Is(err, driver.ErrMoved) {
			d.t.Errorf("a write at once: %v, want ErrMoved", err)
		}
	}
	eventually(d.t, 10*time.Second, func() error {
		_, err := d.other.Apply(d.t.Context(), in.From.ID, add)
		return err
	})
	if n := d.n(in.From.ID); n != "4" {
		d.t.Errorf("the visitor has %q, want 4", n)
	}
	again, next := newSignIn(d.user, 1)
	next.From = in.From
	res, err := d.other.SignIn(d.t.Context(), again, next)
	must(d.t, err)
	if n := d.n(again); n != "4" || d.live() != 1 || len(res.Evicted) != done/2 {
		d.t.Errorf("the next sign-in has %q, want 4; the user has %d sessions, want 1; %v were ended", n, d.live(), res.Evicted)
	}
}

// TestInterruptedSignInLosesNothing: the process dies after each step of a sign-in. No cart is lost, and nothing counts against the limit for long.
func TestInterruptedSignInLosesNothing(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{NearCache: -1})
	do := func(args ...string) any {
		t.Helper()
		v, err := node.Do(args...)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	add := func(p *driver.Credential) error {
		_, err := s.Apply(t.Context(), p.ID, &driver.Change{Verifier: p.Verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}})
		return err
	}

	t.Run("after the old session was closed", func(t *testing.T) {
		from := mustCreateAnonymous(t, s, 3)
		now := time.Now().UnixMilli()
		do("HSET", sessionKey(from.ID), "@moving", fmt.Sprintf("somebody.%d", now+60_000))
		if err := add(from); !errors.Is(err, driver.ErrMoved) {
			t.Errorf("a write while somebody signs in: %v, want ErrMoved", err)
		}
		id, in := newSignIn("ada", 0)
		in.From = from
		if _, err := s.SignIn(t.Context(), id, in); err != nil {
			t.Errorf("another sign-in meanwhile: %v", err)
		}
		if r, _, err := s.Load(t.Context(), id); err != nil || len(r.Fields) != 0 {
			t.Errorf("it took along what the first one has: %v %v", r, err)
		}
		do("HSET", sessionKey(from.ID), "@moving", fmt.Sprintf("somebody.%d", now-1)) // the lease lapses
		if err := add(from); err != nil {
			t.Errorf("a write after the lease: %v", err)
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
		if _, err := s.SignIn(t.Context(), id, in); err != nil {
			t.Fatal(err)
		}
		ttl, _ := do("PTTL", sessionKey(id)).(int64)
		if ttl <= 0 || ttl > 60_000 {
			t.Errorf("the new session lives for %d ms until its first use, want at most a minute", ttl)
		}
		if err := s.Touch(t.Context(), id, in.Origin.Verifier); err != nil {
			t.Fatal(err)
		}
		if ttl, _ := do("PTTL", sessionKey(id)).(int64); ttl < 3_000_000 {
			t.Errorf("after its first use it lives for %d ms, want an hour", ttl)
		}
	})

	t.Run("repeated", func(t *testing.T) {
		from := mustCreateAnonymous(t, s, 3)
		id, in := newSignIn("eve", 2)
		in.From = from
		for range 3 {
			if _, err := s.SignIn(t.Context(), id, in); err != nil {
				t.Fatal(err)
			}
		}
		live, err := s.Sessions(t.Context(), in.Origin.Principal.Owner)
		if err != nil || len(live) != 1 {
			t.Errorf("%d sessions (%v), want 1", len(live), err)
		}
	})
}
