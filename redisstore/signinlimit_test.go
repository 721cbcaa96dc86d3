package redisstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestLimitHoldsForUserWithThousandsOfSessions signs in a user who has more sessions than a script
// takes keys. The limit counts all of them, and ends the oldest or refuses the sign-in.
func TestLimitHoldsForUserWithThousandsOfSessions(t *testing.T) {
	const n = 2500
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	owner := ownerOf("ada")
	var ids []driver.ID
	signIn := func(limit int, refuse bool) (*driver.Result, error) {
		id, in := newSignIn("ada", limit)
		in.RefuseExtra = refuse
		res, err := s.SignIn(t.Context(), id, in)
		if err == nil {
			ids = append(ids, id)
		}
		return res, err
	}
	mustHave := func(want int) {
		t.Helper()
		entries, err := node.Do("ZCARD", indexKey(owner))
		must(t, err)
		live := 0
		for _, id := range ids {
			if there, err := node.Do("HEXISTS", sessionKey(id), "@s"); err == nil && there == int64(1) {
				live++
			}
		}
		if live != want || entries != int64(want+1) {
			t.Errorf("the user has %d sessions, and the index %v entries with its version; want %d and %d", live, entries, want, want+1)
		}
	}
	for range n {
		_, err := signIn(0, false)
		must(t, err)
	}
	for _, id := range ids[:10] { // as if they had expired
		_, err := node.Do("DEL", sessionKey(id))
		must(t, err)
	}
	ids = ids[10:]
	res, err := signIn(n, true)
	must(t, err)
	if len(res.Evicted) != 0 {
		t.Errorf("SignIn below the limit evicted %d sessions, want none", len(res.Evicted))
	}
	mustHave(n - 9)
	if _, err := signIn(n-9, true); !errors.Is(err, driver.ErrTooMany) {
		t.Errorf("SignIn at the limit: %v, want ErrTooMany", err)
	}
	mustHave(n - 9)
	res, err = signIn(n-9, false)
	must(t, err)
	// Some sessions began in the same millisecond.
	if len(res.Evicted) != 1 || !slices.Contains(ids[:50], res.Evicted[0]) {
		t.Errorf("SignIn at the limit evicted %v, want the oldest session", res.Evicted)
	}
	mustHave(n - 9)
	res, err = signIn(5, false)
	must(t, err)
	if len(res.Evicted) != n-13 || slices.ContainsFunc(ids[len(ids)-3:], func(id driver.ID) bool { return slices.Contains(res.Evicted, id) }) {
		t.Errorf("SignIn evicted %d sessions, want %d, and not the newest", len(res.Evicted), n-13)
	}
	mustHave(5)
}

// TestRoundTripsOfSignIn counts how often the server reads from its connections during a sign-in.
// Commands that are sent together are read at once. Sign-ins during a checkup do not count. The
// store also repeats ends, so the median counts.
func TestRoundTripsOfSignIn(t *testing.T) {
	limitParallel(t)
	const signIns = 31
	node := redistest.Start(t, redistest.Options{})
	var checkups atomic.Int64
	s := mustOpen(t, "redis://"+node.Addr(), showSent(redisstore.Options{}, func(sent []byte) {
		if bytes.Contains(sent, []byte("INFO")) || bytes.Contains(sent, []byte("PING")) {
			checkups.Add(1)
		}
	}))
	reads := func() int { return infoNumber(t, node, "stats", `total_reads_processed:(\d+)`) }
	for _, c := range []struct {
		name      string
		anonymous bool
		limit     int
		want      int // round trips
	}{{"plain", false, 0, 1}, {"limit", false, 5, 3}, {"old session", true, 0, 3}, {"old session and limit", true, 5, 3}} {
		var counts []int
		for i := 0; len(counts) < signIns; i++ {
			earlier := checkups.Load()
			id, in := newSignIn(fmt.Sprint(c.name, i), c.limit)
			if c.anonymous {
				in.From = mustCreateAnonymous(t, s, 1)
			}
			before := reads()
			_, err := s.SignIn(t.Context(), id, in)
			must(t, err)
			// The server also reads INFO, and the end of its connection.
			n := reads() - before - 2
			if checkups.Load() == earlier {
				counts = append(counts, n)
			}
		}
		slices.Sort(counts)
		if counts[signIns/2] != c.want {
			t.Errorf("%s: sign-ins take %v round trips, want mostly %d", c.name, counts, c.want)
		}
	}
}

// TestMalformedSessionsEnd makes some of a user's sessions unreadable. All of them end with the
// user's others, and each by itself.
func TestMalformedSessionsEnd(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	do := func(args ...string) any {
		t.Helper()
		v, err := node.Do(args...)
		must(t, err)
		return v
	}
	damage := map[string]func(key string){
		"short value":  func(key string) { do("HSET", key, "@l", "short") },
		"no state":     func(key string) { do("HDEL", key, "@s") },
		"a text":       func(key string) { do("SET", key, "text") },
		"a list":       func(key string) { do("DEL", key); do("RPUSH", key, "text") },
		"new version":  func(key string) { do("HSET", key, "@s", "2"+do("HGET", key, "@s").(string)[1:]) },
		"unknown name": func(key string) { do("HSET", key, "@new", "1") },
	}
	ends := map[string]func(s *redisstore.Store, owner driver.Hash, damaged driver.ID) error{
		"EndUser": func(s *redisstore.Store, owner driver.Hash, _ driver.ID) error {
			_, err := s.EndUser(t.Context(), owner, driver.Selection{})
			return err
		},
		"EndUser of one": func(s *redisstore.Store, owner driver.Hash, damaged driver.ID) error {
			ended, err := s.EndUser(t.Context(), owner, driver.Selection{Only: []driver.ID{damaged}})
			if len(ended) != 1 {
				t.Errorf("EndUser ended %v, want the malformed session", ended)
			}
			return err
		},
		"End":    func(s *redisstore.Store, _ driver.Hash, damaged driver.ID) error { return s.End(t.Context(), damaged) },
		"EndAll": func(s *redisstore.Store, _ driver.Hash, _ driver.ID) error { return s.EndAll(t.Context()) },
		"limit": func(s *redisstore.Store, _ driver.Hash, _ driver.ID) error {
			id, in := newSignIn("ada", 1)
			_, err := s.SignIn(t.Context(), id, in)
			return err
		},
	}
	for what, breakIt := range damage {
		for how, end := range ends {
			if how == "EndAll" && what == "no token" || how == "EndAll" && what == "unknown name" {
				continue // as any session
			}
			do("FLUSHALL")
			s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
			damaged, _ := mustSignIn(t, s, "ada")
			mustSignIn(t, s, "ada")
			breakIt(sessionKey(damaged))
			if _, _, err := s.LoadFresh(t.Context(), damaged); !errors.Is(err, driver.ErrFormat) {
				t.Errorf("%s: Load returns %v, want ErrFormat", what, err)
			}
			if err := end(s, ownerOf("ada"), damaged); err != nil {
				t.Errorf("%s: %s of a malformed session: %v", what, how, err)
			}
			// HEXISTS fails for a key that is no hash.
			marker := do("HEXISTS", sessionKey(damaged), "@ended")
			if there := do("EXISTS", sessionKey(damaged)); there != marker {
				t.Errorf("%s: the malformed session is there after %s", what, how)
			}
			must(t, s.Close())
		}
	}
}
