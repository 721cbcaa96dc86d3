package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// signedIn signs somebody in, and has used the session once.
func signedIn(t testing.TB, s *redisstore.Store, user string) (driver.ID, driver.Hash) {
	t.Helper()
	id, in := signInOf(user, 0)
	if _, err := s.SignIn(t.Context(), id, in); err != nil {
		t.Fatal(err)
	}
	if err := s.Touch(t.Context(), id, in.Spec.Verifier); err != nil {
		t.Fatal(err)
	}
	return id, in.Spec.Verifier
}

func ownerOf(user string) driver.Hash { return driver.HashOf([]byte(user)) }

// bucketKey is a key of a user's bucket: "u" and the user's hash, or "n".
func bucketKey(user, rest string) string {
	owner := ownerOf(user)
	return fmt.Sprintf("coatcheck:{%04x}:%s", driver.BucketOf(owner), rest)
}

// eachTopology runs a test on each; do sends a command to the node that has a key.
func eachTopology(t *testing.T, run func(t *testing.T, url string, do func(key string, args ...string) any)) {
	command := func(t *testing.T, node func(key string) (*redistest.Node, error)) func(string, ...string) any {
		return func(key string, args ...string) any {
			t.Helper()
			n, err := node(key)
			ok(t, err)
			v, err := n.Do(args...)
			ok(t, err)
			return v
		}
	}
	t.Run("standalone", func(t *testing.T) {
		n := redistest.Start(t, redistest.Options{})
		run(t, "redis://"+n.Addr(), command(t, func(string) (*redistest.Node, error) { return n, nil }))
	})
	t.Run("sentinel", func(t *testing.T) {
		s := redistest.StartSentinel(t, redistest.Options{})
		run(t, sentinelURL(s), command(t, func(string) (*redistest.Node, error) { return s.Primary() }))
	})
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t, redistest.Options{})
		run(t, "redis+cluster://"+strings.Join(c.Addrs(), ","), command(t, func(key string) (*redistest.Node, error) { return c.NodeOfSlot(redistest.Slot(key)) }))
	})
}

// isOver checks that a session is none for a store: not to readers, within the bound for copies, and not to writers, at once.
func isOver(t testing.TB, s *redisstore.Store, id driver.ID, verifier driver.Hash) {
	t.Helper()
	change := &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
	if _, err := s.Apply(t.Context(), id, change); !errors.Is(err, driver.ErrNotFound) { // which drops a copy: see isNotServed
		t.Errorf("Apply to a revoked session: %v, want ErrNotFound", err)
	}
	if err := s.Touch(t.Context(), id, verifier); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Touch of a revoked session: %v, want ErrNotFound", err)
	}
	eventually(t, 200*time.Millisecond, func() error {
		for _, load := range []func(context.Context, driver.ID) (*driver.Record, time.Time, error){s.Load, s.LoadFresh} {
			if _, _, err := load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
				return fmt.Errorf("Load of a revoked session: %v, want ErrNotFound", err)
			}
		}
		return nil
	})
	if _, _, found := s.LoadStale(id); found {
		t.Error("a revoked session has a stale copy")
	}
}

// isNotServed checks that a revoked session of which a store has a copy is not found any more, though nothing but the revocation is told.
func isNotServed(t testing.TB, s *redisstore.Store, id driver.ID) {
	t.Helper()
	eventually(t, 200*time.Millisecond, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load of a revoked session: %v, want ErrNotFound", err)
		}
		return nil
	})
}

// lives checks that a session is there, and takes a change.
func lives(t testing.TB, s *redisstore.Store, id driver.ID, verifier driver.Hash) {
	t.Helper()
	if _, _, err := s.Load(t.Context(), id); err != nil {
		t.Errorf("Load: %v", err)
	}
	change := &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
	if _, err := s.Apply(t.Context(), id, change); err != nil {
		t.Errorf("Apply: %v", err)
	}
}

// TestRevokedWithoutIndex: somebody lost a user's index. Revoking the user ends their sessions all the same: for another node that has
// copies of them, for its writers, and for a sign-in in their place; all but the one that was to stay.
func TestRevokedWithoutIndex(t *testing.T) {
	few(t)
	eachTopology(t, func(t *testing.T, url string, do func(key string, args ...string) any) {
		a, b := open(t, url, redisstore.Options{Timeout: 10 * time.Second}), open(t, url, redisstore.Options{Timeout: 10 * time.Second})
		const user = "ada"
		var ids []driver.ID
		var verifiers []driver.Hash
		for range 4 {
			id, verifier := signedIn(t, a, user)
			ids, verifiers = append(ids, id), append(verifiers, verifier)
			warm(t, b, id)
		}
		neighbour, theirs := signedIn(t, a, "bob")
		index := indexKey(ownerOf(user))
		if n := do(index, "DEL", index); n != int64(1) {
			t.Fatalf("the index is not there: %v", n)
		}
		time.Sleep(2 * time.Millisecond)
		before, _ := b.Near()
		if _, err := a.EndUser(t.Context(), ownerOf(user), driver.Selection{Except: ids[3:]}); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			isNotServed(t, b, ids[i])
			isOver(t, b, ids[i], verifiers[i])
			isOver(t, a, ids[i], verifiers[i])
			id, in := signInOf("eve", 0)
			in.From = &driver.Credential{ID: ids[i], Verifier: verifiers[i]}
			in.Carry = func(r *driver.Record) (driver.Fields, error) {
				t.Error("a sign-in takes along what a revoked session had")
				return nil, nil
			}
			if _, err := b.SignIn(t.Context(), id, in); err != nil {
				t.Error(err)
			}
		}
		lives(t, b, ids[3], verifiers[3])
		lives(t, a, neighbour, theirs)
		time.Sleep(2 * time.Millisecond)
		id, verifier := signedIn(t, b, user)
		lives(t, a, id, verifier)
		if after, _ := b.Near(); after.Copies == 0 || before.Copies < 4 {
			t.Errorf("the near cache was not in play: %+v", after)
		}
		// Who was not to stay before does not stay now, and who was to stay does not come back.
		do(index, "DEL", index)
		ended, err := b.EndUser(t.Context(), ownerOf(user), driver.Selection{Except: []driver.ID{ids[0], id}})
		if err != nil || len(ended) != 0 {
			t.Errorf("EndUser: %v, error %v: without an index it knows of none", ended, err)
		}
		lives(t, a, id, verifier)
		isOver(t, a, ids[0], verifiers[0])
		isOver(t, a, ids[3], verifiers[3])
		revocations := bucketKey(user, "n")
		if ttl := do(revocations, "PTTL", revocations).(int64); ttl < driver.MaxSignInTime.Milliseconds() {
			t.Errorf("the revocation is forgotten in %d ms", ttl)
		}
	})
}

// TestIndexThatLies: the index names a session that is younger than it says. It ends with the user's others, and to end them does not go round
// in circles.
func TestIndexThatLies(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	a, b := open(t, "redis://"+node.Addr(), redisstore.Options{}), open(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := signedIn(t, a, "ada")
	_, err := node.Do("HSET", keyOf(id), "@created", fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))
	ok(t, err)
	ok(t, within(t, 2*time.Second, func() error { _, err := b.EndUser(t.Context(), ownerOf("ada"), driver.Selection{}); return err }))
	isOver(t, b, id, verifier)
}

// TestTenThousandSessions: of a user with so many all are over at once, listed, limited and removed.
func TestTenThousandSessions(t *testing.T) {
	const user, n = "ada", 10_000
	node := redistest.Start(t, redistest.Options{})
	o := redisstore.Options{Timeout: 10 * time.Second}
	a, b := open(t, "redis://"+node.Addr(), o), open(t, "redis://"+node.Addr(), o)
	signInMany := func() (ids []driver.ID, verifiers []driver.Hash) {
		ids, verifiers = make([]driver.ID, n), make([]driver.Hash, n)
		var all sync.WaitGroup
		for worker := range 20 {
			all.Go(func() {
				for i := worker; i < n; i += 20 {
					id, in := signInOf(user, 0)
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
	listed := func(want int) {
		t.Helper()
		begin := time.Now()
		if list, err := b.Sessions(t.Context(), ownerOf(user)); err != nil || len(list) != want {
			t.Errorf("%d sessions are listed, error %v, want %d", len(list), err, want)
		}
		t.Logf("listed %d in %v", want, time.Since(begin))
	}
	ids, verifiers := signInMany()
	listed(n)
	for _, id := range ids[:100] {
		warm(t, b, id)
	}
	time.Sleep(2 * time.Millisecond)

	// It stops after the first step: all are over, and the next one goes on.
	ctx, cancel := context.WithCancel(t.Context())
	stop := make(chan struct{})
	go func() { // when the revocation stands there
		defer close(stop)
		revocations := bucketKey(user, "n")
		for {
			if there, err := node.Do("EXISTS", revocations); err != nil || there == int64(1) {
				cancel()
				return
			}
		}
	}()
	ended, err := a.EndUser(ctx, ownerOf(user), driver.Selection{})
	<-stop
	if err == nil {
		t.Fatal("it was to be interrupted")
	}
	for i := 0; i < n; i += 500 {
		isOver(t, b, ids[i], verifiers[i])
	}
	for i := range 10 {
		isOver(t, b, ids[i], verifiers[i])
	}
	listed(0)
	if left, err := node.Do("DBSIZE"); err != nil || left.(int64) < n/2 {
		t.Errorf("%v keys are left, error %v: it was not interrupted", left, err)
	}
	begin := time.Now()
	rest, err := b.EndUser(t.Context(), ownerOf(user), driver.Selection{})
	if total := len(ended) + len(rest); err != nil || total > n || total < n-500 { // of one batch the answer was not heard
		t.Errorf("%d and then %d sessions were ended, error %v, want %d", len(ended), len(rest), err, n)
	}
	t.Logf("ended %d in %v", len(rest), time.Since(begin))
	if left, err := node.Do("DBSIZE"); err != nil || left.(int64) > 2 {
		t.Errorf("%v keys are left, error %v, want the index and the revocation", left, err)
	}

	// A limit is new: the next sign-in brings it about.
	time.Sleep(2 * time.Millisecond)
	signInMany()
	id, in := signInOf(user, 5)
	in.RefuseExtra = true
	if _, err := a.SignIn(t.Context(), id, in); !errors.Is(err, driver.ErrTooMany) {
		t.Errorf("SignIn: %v, want ErrTooMany", err)
	}
	listed(n)
	in.RefuseExtra = false
	begin = time.Now()
	res, err := a.SignIn(t.Context(), id, in)
	if err != nil || len(res.Evicted) != n-4 {
		t.Fatalf("SignIn under a limit of 5: error %v, %d ended, want %d", err, len(res.Evicted), n-4)
	}
	t.Logf("a sign-in ended %d in %v", len(res.Evicted), time.Since(begin))
	listed(5)
	if slices.Contains(res.Evicted, id) {
		t.Error("a sign-in ended its own session")
	}
}

// TestSignOutEverywhereOnTheMove: while a slot moves, the keys of a session and of its bucket's revocations may be on two servers. Changes go on
// nevertheless, and sessions that were revoked take none, wherever they are.
func TestSignOutEverywhereOnTheMove(t *testing.T) {
	few(t)
	cluster := redistest.StartCluster(t, redistest.Options{})
	url := "redis+cluster://" + strings.Join(cluster.Addrs(), ",")
	a, b := open(t, url, redisstore.Options{Timeout: 10 * time.Second}), open(t, url, redisstore.Options{Timeout: 10 * time.Second})
	const user = "ada"
	old, oldVerifier := signedIn(t, a, user)
	revocations := bucketKey(user, "n")
	node, err := cluster.NodeOfSlot(redistest.Slot(revocations))
	ok(t, err)
	dump, err := node.Do("DUMP", keyOf(old)) // the session comes back, as from a backup
	ok(t, err)
	time.Sleep(2 * time.Millisecond)
	if _, err := a.EndUser(t.Context(), ownerOf(user), driver.Selection{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond)
	young, verifier := signedIn(t, a, user)
	for _, first := range [][]string{{revocations}, {keyOf(young), keyOf(old)}} {
		_, err = node.Do("RESTORE", keyOf(old), "0", dump.(string), "REPLACE")
		ok(t, err)
		m, to := migrate(t, cluster, redistest.Slot(revocations))
		check := func() {
			t.Helper()
			for _, s := range []*redisstore.Store{a, b} {
				begin := time.Now()
				lives(t, s, young, verifier)
				if took := time.Since(begin); took > 2*time.Second {
					t.Errorf("a change took %v", took)
				}
			}
			isOver(t, b, old, oldVerifier)
		}
		check()
		ok(t, m.Move(first...))
		check()
		ok(t, m.Finish())
		check()
		node = to
	}
}

// TestSignOutOnTheMove: while a slot moves, a session and its user's index may be on two servers. To end the session does not wait for that.
func TestSignOutOnTheMove(t *testing.T) {
	few(t)
	cluster := redistest.StartCluster(t, redistest.Options{})
	s := open(t, "redis+cluster://"+strings.Join(cluster.Addrs(), ","), redisstore.Options{})
	var ids []driver.ID
	for range 3 {
		id, _ := signedIn(t, s, "ada")
		ids = append(ids, id)
	}
	index := indexKey(ownerOf("ada"))
	m, _ := migrate(t, cluster, redistest.Slot(index))
	end := func(id driver.ID) {
		t.Helper()
		begin := time.Now()
		ended, err := s.EndAndReport(t.Context(), id, ownerOf("ada"))
		if took := time.Since(begin); err != nil || !ended || took > time.Second {
			t.Errorf("EndAndReport: %v, error %v, after %v", ended, err, took)
		}
		if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
	}
	ok(t, m.Move(keyOf(ids[0])))
	end(ids[0])
	ok(t, m.Move(index))
	end(ids[1])
	ok(t, m.Finish())
	end(ids[2])
	if list, err := s.Sessions(t.Context(), ownerOf("ada")); err != nil || len(list) != 0 {
		t.Errorf("%d sessions are left, error %v", len(list), err)
	}
}

// TestRevokeAnswerLost: what an end did that is not answered is not known, and nobody is told that there was no such session.
func TestRevokeAnswerLost(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	p := startProxy(t, node.Addr())
	s := open(t, "redis://"+p.Addr(), redisstore.Options{})
	id, in := signInOf("ada", 0)
	owner := in.Spec.Principal.Owner
	_, err := s.SignIn(t.Context(), id, in)
	ok(t, err)
	only := driver.Selection{Only: []driver.ID{id}}
	_, err = s.EndUser(t.Context(), ownerOf("bob"), only) // the script is there
	ok(t, err)
	p.losesAnswer("only")
	if ended, err := s.EndUser(t.Context(), owner, only); !errors.Is(err, driver.ErrUnknown) {
		t.Errorf("%v, %v; want ErrUnknown", ended, err)
	}
	if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("%v, want ErrNotFound", err)
	}
	if ended, err := s.EndUser(t.Context(), owner, only); err != nil || len(ended) > 0 {
		t.Errorf("again: %v, %v; want none", ended, err)
	}
}

// TestMadeUpEnds: sign-outs with tokens that nobody was given leave nothing behind; a real one does, by which it is repeated.
func TestMadeUpEnds(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := fresh()
	create(t, s, id, o)
	ok(t, s.End(t.Context(), id))
	for range 20 {
		made, _ := fresh()
		ok(t, s.End(t.Context(), made))
	}
	before := callsOf(t, node, "del")
	eventually(t, 5*time.Second, func() error { // a second later it is repeated
		if n := callsOf(t, node, "del") - before; n == 0 {
			return errors.New("the end was not repeated")
		}
		return nil
	})
	if n := callsOf(t, node, "del") - before; n > 5 {
		t.Errorf("%d ends were repeated, want that of the session that there was", n)
	}
}
