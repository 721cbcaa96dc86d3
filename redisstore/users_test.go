package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// signInOf is what a user's sign-in asks of the store.
func signInOf(user string, limit int) (driver.ID, *driver.SignIn) {
	id, o := fresh()
	owner := driver.HashOf([]byte(user))
	id.Bucket = uint16(owner[0])<<8 | uint16(owner[1])
	o.Principal = &driver.Principal{User: user, Owner: owner}
	return id, &driver.SignIn{Spec: *o, Change: driver.Change{Verifier: o.Verifier}, MaxSessions: limit, Carry: everything}
}

func everything(r *driver.Record) (driver.Fields, error) { return r.Fields, nil }

// anonymous stores an anonymous session with a counter at n.
func anonymous(t *testing.T, s *redisstore.Store, n int64) *driver.Credential {
	t.Helper()
	id, o := fresh()
	add := []driver.Op{{Kind: driver.Add, Key: "n", Delta: n}}
	if _, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier, Ops: add}); err != nil {
		t.Fatal(err)
	}
	return &driver.Credential{ID: id, Verifier: o.Verifier}
}

// TestLimitUnderConcurrentSignIns: 200 sign-ins of one user at the same time, under a limit of 5, on a Cluster, from two processes: at no
// moment are more than 5 of the user's sessions alive: counted by one command on the server, whatever the index says, and by the list.
func TestLimitUnderConcurrentSignIns(t *testing.T) {
	const limit, visitors = 5, 200
	cluster := redistest.StartCluster(t, redistest.Options{})
	url := "redis+cluster://" + strings.Join(cluster.Addrs(), ",")
	o := redisstore.Options{Timeout: 20 * time.Second}
	nodes := [2]*redisstore.Store{open(t, url, o), open(t, url, o)}
	owner := driver.HashOf([]byte("ada"))
	watch := open(t, url, o)
	server, err := cluster.NodeOfSlot(redistest.Slot(bucketKey("ada", "u:")))
	if err != nil {
		t.Fatal(err)
	}
	count := `local n = 0
		for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do n = n + redis.call('HEXISTS', key, '@principal') end
		return n`
	var all, watchers sync.WaitGroup
	stop := make(chan struct{})
	watched := func(look func() (int64, error)) (*int64, *int64) {
		most, looks := new(int64), new(int64)
		watchers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, err := look()
				if err != nil {
					t.Error(err)
					return
				}
				*looks++
				*most = max(*most, n)
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
		live, err := watch.Sessions(t.Context(), owner)
		return int64(len(live)), err
	})
	for i := range visitors {
		all.Go(func() {
			s := nodes[i%2]
			from := anonymous(t, s, 3)
			id, in := signInOf("ada", limit)
			in.From = from
			res, err := s.SignIn(t.Context(), id, in)
			if err != nil {
				t.Error(err)
				return
			}
			if n, _ := res.Record.Fields.Get("n"); string(n) != "3" {
				t.Errorf("%q came along, want 3", n)
			}
			if _, _, err := s.Load(t.Context(), from.ID); !errors.Is(err, driver.ErrMoved) {
				t.Errorf("the session before: %v, want ErrMoved", err)
			}
		})
	}
	all.Wait()
	close(stop)
	watchers.Wait()
	live, err := watch.Sessions(t.Context(), owner)
	if err != nil || len(live) != limit {
		t.Errorf("%d sessions are left (%v), want %d", len(live), err, limit)
	}
	if *most != limit || *mostListed > limit || *looks < 50 || *lists < 10 {
		t.Errorf("%d sessions were alive at a moment, in %d looks, and %d in %d lists; at most %d are allowed", *most, *looks, *mostListed, *lists, limit)
	}
	t.Logf("%d looks at the server, %d lists", *looks, *lists)
}

// TestLimitWhereAnotherTookOver: while a sign-in takes long another one has marked the session before as its own. It is not replaced then, and counts.
func TestLimitWhereAnotherTookOver(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	s, other := open(t, "redis://"+node.Addr(), redisstore.Options{}), open(t, "redis://"+node.Addr(), redisstore.Options{})
	before, first := signInOf("ada", 1)
	_, err := s.SignIn(t.Context(), before, first)
	ok(t, err)
	id, in := signInOf("ada", 1)
	in.From = &driver.Credential{ID: before, Verifier: first.Spec.Verifier}
	in.Carry = func(r *driver.Record) (driver.Fields, error) {
		_, err := node.Do("HSET", keyOf(before), "@moving", fmt.Sprintf("somebody.%d", time.Now().Add(time.Minute).UnixMilli()))
		return r.Fields, err
	}
	time.Sleep(2 * time.Millisecond)
	_, err = s.SignIn(t.Context(), id, in)
	ok(t, err)
	if list, err := other.Sessions(t.Context(), in.Spec.Principal.Owner); err != nil || len(list) != 1 || list[0].ID != id {
		t.Errorf("%d sessions are alive, error %v, want the new one alone", len(list), err)
	}
}

// TestSignInThatStopsHalfWay: the process dies after each step of a sign-in. No cart is lost, and nothing counts against the limit for long.
func TestSignInThatStopsHalfWay(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{NearCache: -1})
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
		from := anonymous(t, s, 3)
		now := time.Now().UnixMilli()
		do("HSET", keyOf(from.ID), "@moving", fmt.Sprintf("somebody.%d", now+60_000))
		if err := add(from); !errors.Is(err, driver.ErrMoved) {
			t.Errorf("a write while somebody signs in: %v, want ErrMoved", err)
		}
		id, in := signInOf("ada", 0)
		in.From = from
		if _, err := s.SignIn(t.Context(), id, in); err != nil {
			t.Errorf("another sign-in meanwhile: %v", err)
		}
		if r, _, err := s.Load(t.Context(), id); err != nil || len(r.Fields) != 0 {
			t.Errorf("it took along what the first one has: %v %v", r, err)
		}
		do("HSET", keyOf(from.ID), "@moving", fmt.Sprintf("somebody.%d", now-1)) // the lease lapses
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
		from := anonymous(t, s, 3)
		id, in := signInOf("bob", 1)
		in.From = from
		if _, err := s.SignIn(t.Context(), id, in); err != nil {
			t.Fatal(err)
		}
		ttl, _ := do("PTTL", keyOf(id)).(int64)
		if ttl <= 0 || ttl > 60_000 {
			t.Errorf("the new session lives for %d ms until its first use, want at most a minute", ttl)
		}
		if err := s.Touch(t.Context(), id, in.Spec.Verifier); err != nil {
			t.Fatal(err)
		}
		if ttl, _ := do("PTTL", keyOf(id)).(int64); ttl < 3_000_000 {
			t.Errorf("after its first use it lives for %d ms, want an hour", ttl)
		}
	})

	t.Run("repeated", func(t *testing.T) {
		from := anonymous(t, s, 3)
		id, in := signInOf("eve", 2)
		in.From = from
		for range 3 {
			if _, err := s.SignIn(t.Context(), id, in); err != nil {
				t.Fatal(err)
			}
		}
		live, err := s.Sessions(t.Context(), in.Spec.Principal.Owner)
		if err != nil || len(live) != 1 {
			t.Errorf("%d sessions (%v), want 1", len(live), err)
		}
	})
}

// TestSignOutEverywhereWhileResharding: a slot moves while a user signs in and is signed out everywhere. What is reported as ended is ended,
// and nothing that was there before is left.
func TestSignOutEverywhereWhileResharding(t *testing.T) {
	few(t)
	cluster := redistest.StartCluster(t, redistest.Options{})
	s := open(t, "redis+cluster://"+strings.Join(cluster.Addrs(), ","), redisstore.Options{Timeout: 20 * time.Second})
	for round := range 3 {
		user := fmt.Sprint("user", round)
		owner := driver.HashOf([]byte(user))
		var ids []driver.ID
		for range 10 {
			id, in := signInOf(user, 0)
			if _, err := s.SignIn(t.Context(), id, in); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		handle := ids[0].String()
		slot := redistest.Slot("coatcheck:{" + handle[:4] + "}:")
		migration, _ := migrate(t, cluster, slot)
		keys, err := migration.Keys()
		if err != nil {
			t.Fatal(err)
		}
		if err := migration.Move(keys[:len(keys)/2]...); err != nil { // half of the keys are here, half there
			t.Fatal(err)
		}
		finished := make(chan error, 1)
		go func() {
			time.Sleep(300 * time.Millisecond)
			finished <- migration.Finish()
		}()
		ended, err := s.EndUser(t.Context(), owner, driver.Selection{})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
		if len(ended) != len(ids) {
			t.Errorf("%d sessions were reported as ended, want %d", len(ended), len(ids))
		}
		other := open(t, "redis+cluster://"+strings.Join(cluster.Addrs(), ","), redisstore.Options{NearCache: -1})
		for _, id := range ids {
			if _, _, err := other.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
				t.Errorf("session %s after sign-out everywhere: %v, want ErrNotFound", id, err)
			}
		}
	}
}
