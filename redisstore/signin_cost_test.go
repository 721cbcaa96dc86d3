package redisstore_test

import (
	"testing"

	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestSignInCost: a sign-in with no session before it and no limit is a script, and the reading of when everybody was revoked last; the index
// is read now and then, and stays short though nobody lists it.
func TestSignInCost(t *testing.T) {
	few(t)
	const signIns = 400
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	commands := []string{"evalsha", "get", "zrandmember"}
	before := map[string]int{}
	for _, c := range commands {
		before[c] = callsOf(t, node, c)
	}
	for range signIns {
		id, in := signInOf("ada", 0)
		_, err := s.SignIn(t.Context(), id, in)
		ok(t, err)
		_, err = node.Do("DEL", keyOf(id)) // as if it had expired
		ok(t, err)
	}
	calls := map[string]int{}
	for _, c := range commands {
		calls[c] = callsOf(t, node, c) - before[c]
	}
	// A checkup reads that time, too, twice a second. Of the readings of the index some 50 are due.
	if calls["evalsha"] > signIns+1 || calls["get"] > signIns*3/2 || calls["zrandmember"] == 0 || calls["zrandmember"] > signIns/3 {
		t.Errorf("%d sign-ins took %v", signIns, calls)
	}
	_, in := signInOf("ada", 0)
	n, err := node.Do("ZCARD", indexKey(in.Spec.Principal.Owner))
	ok(t, err)
	if n := n.(int64); n > signIns/2 {
		t.Errorf("the index has %d entries, and none of the %d sessions is there", n, signIns)
	}
}

// TestSignInSweepsAnywhere: old sessions that live on do not hide the younger ones that are gone.
func TestSignInSweepsAnywhere(t *testing.T) {
	few(t)
	const stay, signIns = 40, 600
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	for i := range stay + signIns {
		id, in := signInOf("ada", 0)
		_, err := s.SignIn(t.Context(), id, in)
		ok(t, err)
		if i >= stay {
			_, err = node.Do("DEL", keyOf(id)) // as if it had expired
			ok(t, err)
		}
	}
	_, in := signInOf("ada", 0)
	n, err := node.Do("ZCARD", indexKey(in.Spec.Principal.Owner))
	ok(t, err)
	if n := n.(int64); n > stay+signIns/2 {
		t.Errorf("the index has %d entries, and %d sessions are there", n, stay)
	}
}

// TestSignInLooksForExpired: who tells of sessions that expired reads the index each time.
func TestSignInLooksForExpired(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	var told expiries
	told.hear(s)
	before := callsOf(t, node, "zrandmember")
	for range 20 {
		id, in := signInOf("ada", 0)
		_, err := s.SignIn(t.Context(), id, in)
		ok(t, err)
	}
	if n := callsOf(t, node, "zrandmember") - before; n < 20 {
		t.Errorf("20 sign-ins read the index %d times", n)
	}
}

// TestSignInAsksFirst: a sign-in that would leave a session, or end one for the limit, and a node that is told of nothing, ask before they begin
// whether everybody was revoked.
func TestSignInAsksFirst(t *testing.T) {
	few(t)
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
		s := open(t, url, c.options)
		id, in := signInOf("ada", c.limit)
		if c.leave {
			in.From = anonymous(t, s, 1)
		}
		before := callsOf(t, node, "get")
		_, err := s.SignIn(t.Context(), id, in)
		ok(t, err)
		if n := callsOf(t, node, "get") - before; n < 2 {
			t.Errorf("%s: the time was read %d times, want 2", name, n)
		}
		ok(t, s.Close())
	}
}
