package redisstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestUserIDIsAnyBytes signs in users whose ids are any 1 to 256 bytes, in clear and sealed. Each
// id is one user, listed and signed out alone, also by another process.
func TestUserIDIsAnyBytes(t *testing.T) {
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	ids := []string{
		"a", "A", "a\x00", "\x00", "\x00\x00", "\xff\xfe", "\xff\xfd", "\xed\xa0\x80", "a b\r\n",
		`"}],"owner":"x"`, "{1a2b}", "*", "@rev", "é", "e\u0301", "😀",
		strings.Repeat("u", 256), strings.Repeat("\x00", 256),
		strings.Repeat("\xff", 256), strings.Repeat("\xff", 255) + "\xfe",
	}
	for _, seal := range []bool{false, true} {
		t.Run(fmt.Sprint("sealed ", seal), func(t *testing.T) {
			cfg := session.Config{
				Seal: seal, Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}, UserKey: bytes.Repeat([]byte{2}, 32),
			}
			o := patient(redisstore.Options{Namespace: fmt.Sprint("ids-", seal)})
			m, err := session.New(mustOpen(t, url, o), cfg)
			must(t, err)
			other, err := session.New(mustOpen(t, url, o), cfg)
			must(t, err)
			signIn := func(id string) error {
				h := m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
					if err = s.SignIn(t.Context(), session.Login{User: id}); err == nil && s.User() != id {
						t.Errorf("User returns %q, want %q", s.User(), id)
					}
					return nil
				}))
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
				return err
			}
			for _, bad := range []string{"", strings.Repeat("u", 257), strings.Repeat("\xff", 257)} {
				if err := signIn(bad); !errors.Is(err, session.ErrInvalid) {
					t.Errorf("SignIn with an id of %d bytes: %v, want ErrInvalid", len(bad), err)
				}
				list, err := listAll(t.Context(), other, bad)
				n, err2 := other.RevokeUser(t.Context(), bad)
				// Nobody has an id that is too long. An empty one is a mistake of the caller.
				refused := errors.Is(err, session.ErrInvalid) && errors.Is(err2, session.ErrInvalid)
				if len(list) != 0 || n != 0 || refused != (bad == "") || !refused && (err != nil || err2 != nil) {
					t.Errorf("an id of %d bytes: %d sessions listed, %d ended, errors %v, %v; want ErrInvalid if it is empty, else none",
						len(bad), len(list), n, err, err2)
				}
			}
			for _, id := range ids {
				must(t, signIn(id))
			}
			for i, id := range ids {
				list, err := listAll(t.Context(), other, id)
				if err != nil || len(list) != 1 || list[0].User != id {
					t.Errorf("Sessions of %q: %+v, error %v, want the user's one session", id, list, err)
					continue
				}
				err = other.Revoke(t.Context(), ids[(i+1)%len(ids)], list[0].Handle)
				if !errors.Is(err, session.ErrNotFound) {
					t.Errorf("Revoke of a session of %q by another user: %v, want ErrNotFound", id, err)
				}
			}
			for i, id := range ids {
				if n, err := other.RevokeUser(t.Context(), id); err != nil || n != 1 {
					t.Errorf("RevokeUser of %q ends %d sessions, error %v, want 1", id, n, err)
				}
				if i+1 < len(ids) {
					if list, err := listAll(t.Context(), m, ids[i+1]); err != nil || len(list) != 1 {
						t.Errorf("RevokeUser of %q also ends the session of %q: error %v", id, ids[i+1], err)
					}
				}
			}
		})
	}
}

// TestLimitHoldsUnderConcurrentSignIns signs one user in 200 times at once, from two processes on a
// Cluster, with a limit of 5. At no moment does the user have more than 5 live sessions. The test
// counts them with the list, and with one command on the server that does not use the index.
func TestLimitHoldsUnderConcurrentSignIns(t *testing.T) {
	const limit, visitors = 5, 200
	cluster := redistest.StartCluster(t, redistest.Options{})
	url := clusterURL(cluster)
	o := patient(redisstore.Options{})
	nodes := [2]*redisstore.Store{mustOpen(t, url, o), mustOpen(t, url, o)}
	owner := driver.HashOf([]byte("ada"))
	watch := mustOpen(t, url, o)
	server, err := cluster.NodeOfSlot(redistest.Slot(bucketKey("ada", "u:")))
	must(t, err)
	count := `local n = 0
		for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do n = n + redis.call('HEXISTS', key, '@u') end
		return n`
	var all, watchers sync.WaitGroup
	var over atomic.Bool
	watched := func(look func() (int64, error)) (*atomic.Int64, *atomic.Int64) {
		most, looks := new(atomic.Int64), new(atomic.Int64)
		watchers.Go(func() {
			for last := false; !last; {
				last = over.Load()
				n, err := look()
				if err != nil {
					t.Error(err)
					return
				}
				looks.Add(1)
				most.Store(max(most.Load(), n))
			}
		})
		return most, looks
	}
	most, looks := watched(func() (int64, error) {
		v, err := server.Do("EVAL", count, "1", bucketKey("ada", "s:"))
		n, _ := v.(int64)
		return n, err
	})
	mostListed, lists := watched(func() (int64, error) {
		live, err := watch.Sessions(t.Context(), owner, driver.SessionCursor{}, 100)
		return int64(len(live)), err
	})
	enough := func() bool { return t.Failed() || looks.Load() >= 50 && lists.Load() >= 10 }
	for i := 0; i < visitors || !enough(); i++ {
		if i >= visitors { // not enough looks yet
			all.Wait()
		}
		all.Go(func() {
			s := nodes[i%2]
			from := mustCreateAnonymous(t, s, 3)
			id, in := newSignIn("ada", limit)
			in.From = from
			res, err := s.SignIn(t.Context(), id, in)
			if err != nil {
				t.Error(err)
				return
			}
			if n, _ := res.Record.Fields.Get("n"); string(n) != "3" {
				t.Errorf("the new session's counter is %q, want 3", n)
			}
			if _, _, err := s.Load(t.Context(), from.ID); !errors.Is(err, driver.ErrMoved) {
				t.Errorf("Load of the old session: %v, want ErrMoved", err)
			}
		})
	}
	all.Wait()
	over.Store(true)
	watchers.Wait()
	live, err := watch.Sessions(t.Context(), owner, driver.SessionCursor{}, 100)
	if err != nil || len(live) != limit {
		t.Errorf("%d sessions are left, error %v, want %d", len(live), err, limit)
	}
	if most.Load() != limit || mostListed.Load() > limit {
		t.Errorf("up to %d sessions were alive in %d looks at the server, and up to %d in %d lists; want at most %d",
			most.Load(), looks.Load(), mostListed.Load(), lists.Load(), limit)
	}
	t.Logf("%d looks at the server, %d lists", looks.Load(), lists.Load())
}

// TestLimitCountsSessionClaimedByAnotherSignIn has another sign-in claim the old session during a
// sign-in. The sign-in then does not replace the old session, which counts toward the limit.
func TestLimitCountsSessionClaimedByAnotherSignIn(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	url := "redis://" + node.Addr()
	o := patient(redisstore.Options{})
	s, other := mustOpen(t, url, o), mustOpen(t, url, o)
	before, first := newSignIn("ada", 1)
	_, err := s.SignIn(t.Context(), before, first)
	must(t, err)
	id, in := newSignIn("ada", 1)
	in.From = &driver.Credential{ID: before, Verifier: first.Spec.Verifier}
	in.Carry = func(r *driver.Record) (driver.Fields, error) {
		somebody, until := driver.HashOf([]byte("somebody")).String(), time.Now().Add(time.Minute).UnixMilli()
		_, err := node.Do("EVAL", markForSignIn, "1", sessionKey(before), somebody, hexTime(until))
		return r.Fields, err
	}
	time.Sleep(2 * time.Millisecond)
	_, err = s.SignIn(t.Context(), id, in)
	must(t, err)
	list, err := other.Sessions(t.Context(), in.Spec.Principal.Owner, driver.SessionCursor{}, 100)
	if err != nil || len(list) != 1 || list[0].ID != id {
		t.Errorf("Sessions returns %d, error %v, want the new session only", len(list), err)
	}
}

// A list reads no fields: its cost does not depend on what the sessions hold.
func TestSessionsReadsNoFields(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{NearCache: -1}))
	const many, size = 100, 60_000
	for range many {
		id, in := newSignIn("eve", 0)
		in.Change.Ops = []driver.Op{{Kind: driver.Set, Key: "big", Value: []byte(`"` + strings.Repeat("x", size) + `"`)}}
		in.Change.MaxSize = 2 * size
		_, err := s.SignIn(t.Context(), id, in)
		must(t, err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	list, err := s.Sessions(t.Context(), ownerOf("eve"), driver.SessionCursor{}, 100)
	runtime.ReadMemStats(&after)
	if err != nil || len(list) != many {
		t.Fatalf("Sessions returns %d, error %v, want %d", len(list), err, many)
	}
	allocated := int64(after.TotalAlloc-before.TotalAlloc) / many
	t.Logf("%d bytes allocated for each session", allocated)
	if allocated > size/2 {
		t.Errorf("%d bytes allocated for each session of %d bytes", allocated, size)
	}
}
