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

// mustUseWhileSlotMoves changes and ends sessions of a slot that is on its way to another node.
func mustUseWhileSlotMoves(t *testing.T, s *redisstore.Store, c *redistest.Cluster) {
	t.Helper()
	id, o := newSession()
	mustCreate(t, s, id, o)
	key := sessionKey(id)
	m, _ := mustMigrate(t, c, redistest.Slot(key))
	must(t, m.Move(key))
	_, err := s.Apply(t.Context(), id, increment(o))
	must(t, err)
	_, _, err = s.LoadFresh(t.Context(), id)
	must(t, err)
	must(t, s.End(t.Context(), id))
	must(t, m.Finish())
}

// TestReshardingFailsNoChange moves a slot to another node, there and back, step by step, while its sessions are counted in: ASK for those that have
// moved, MOVED at the end. No change fails.
func TestReshardingFailsNoChange(t *testing.T) {
	limitParallel(t)
	c := redistest.StartCluster(t, redistest.Options{})
	s := mustOpen(t, "redis+cluster://"+c.Addrs()[0], redisstore.Options{})
	reader := mustOpen(t, "redis+cluster://"+c.Addrs()[1], redisstore.Options{})
	l := startLoad(t, s, 8)
	var ids []driver.ID
	for range 20 { // more of the first session's slot, which are read and ended meanwhile
		id, o := newSession()
		id.Bucket = l.visitors[0].id.Bucket
		mustCreate(t, s, id, o)
		ids = append(ids, id)
	}
	for i := range 4 {
		mustMoveSlot(t, c, redistest.Slot(sessionKey(ids[0])), c.Nodes[(i+1)%3], func() {
			for _, id := range ids {
				_, _, err := reader.Load(t.Context(), id)
				must(t, err)
			}
			time.Sleep(20 * time.Millisecond)
		})
		gone := ids[0]
		ids = ids[1:]
		must(t, s.End(t.Context(), gone))
		eventually(t, 100*time.Millisecond, func() error {
			if _, _, err := reader.Load(t.Context(), gone); !errors.Is(err, driver.ErrNotFound) {
				return errors.New("the end is not seen by the other store")
			}
			return nil
		})
	}
	l.mustCountExactly(false)
	for _, v := range l.visitors {
		if n := v.unknown.Load() + l.refused.Load(); n > 0 {
			t.Fatalf("%d changes failed: %v", n, l.lastError.Load())
		}
	}
}

// migrate begins to move a slot from the node that has it to another, which it returns, too.
func mustMigrate(t *testing.T, c *redistest.Cluster, slot int) (m *redistest.Migration, to *redistest.Node) {
	t.Helper()
	from, err := c.NodeOfSlot(slot)
	must(t, err)
	primaries, err := c.Primaries()
	must(t, err)
	if to = primaries[0]; to == from {
		to = primaries[1]
	}
	m, err = c.Migrate(slot, to)
	must(t, err)
	return m, to
}

// mustMoveSlot moves the keys of a slot one by one, and calls between after each.
func mustMoveSlot(t *testing.T, c *redistest.Cluster, slot int, to *redistest.Node, between func()) {
	t.Helper()
	if owner, err := c.NodeOfSlot(slot); err != nil || owner == to {
		return
	}
	m, err := c.Migrate(slot, to)
	must(t, err)
	between()
	for {
		keys, err := m.Keys()
		must(t, err)
		if len(keys) == 0 {
			break
		}
		must(t, m.Move(keys[:min(len(keys), 7)]...))
		between()
	}
	must(t, m.Finish())
	between()
}

// TestRevocationHoldsWhileSlotMoves: while a slot moves, the keys of a session and of its bucket's revocations may be on two servers. Changes go on
// nevertheless, and sessions that were revoked take none, wherever they are.
func TestRevocationHoldsWhileSlotMoves(t *testing.T) {
	limitParallel(t)
	cluster := redistest.StartCluster(t, redistest.Options{})
	url := clusterURL(cluster)
	a, b := mustOpen(t, url, redisstore.Options{Timeout: 10 * time.Second}), mustOpen(t, url, redisstore.Options{Timeout: 10 * time.Second})
	const user = "ada"
	old, oldVerifier := mustSignIn(t, a, user)
	revocations := bucketKey(user, "n")
	node, err := cluster.NodeOfSlot(redistest.Slot(revocations))
	must(t, err)
	dump, err := node.Do("DUMP", sessionKey(old)) // the session comes back, as from a backup
	must(t, err)
	time.Sleep(2 * time.Millisecond)
	if _, err := a.EndUser(t.Context(), ownerOf(user), driver.Selection{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond)
	young, verifier := mustSignIn(t, a, user)
	for _, first := range [][]string{{revocations}, {sessionKey(young), sessionKey(old)}} {
		_, err = node.Do("RESTORE", sessionKey(old), "0", dump.(string), "REPLACE")
		must(t, err)
		m, to := mustMigrate(t, cluster, redistest.Slot(revocations))
		check := func() {
			t.Helper()
			for _, s := range []*redisstore.Store{a, b} {
				begin := time.Now()
				mustBeAlive(t, s, young, verifier)
				if took := time.Since(begin); took > 2*time.Second {
					t.Errorf("a change took %v", took)
				}
			}
			mustBeRevoked(t, b, old, oldVerifier)
		}
		check()
		must(t, m.Move(first...))
		check()
		must(t, m.Finish())
		check()
		node = to
	}
}

// TestEndOwnedDoesNotWaitForMovingSlot: while a slot moves, a session and its user's index may be on two servers. To end the session does not wait for that.
func TestEndOwnedDoesNotWaitForMovingSlot(t *testing.T) {
	limitParallel(t)
	cluster := redistest.StartCluster(t, redistest.Options{})
	s := mustOpen(t, clusterURL(cluster), redisstore.Options{})
	var ids []driver.ID
	for range 3 {
		id, _ := mustSignIn(t, s, "ada")
		ids = append(ids, id)
	}
	index := indexKey(ownerOf("ada"))
	m, _ := mustMigrate(t, cluster, redistest.Slot(index))
	end := func(id driver.ID) {
		t.Helper()
		begin := time.Now()
		ended, err := s.EndOwned(t.Context(), id, ownerOf("ada"))
		if took := time.Since(begin); err != nil || !ended || took > time.Second {
			t.Errorf("EndOwned: %v, error %v, after %v", ended, err, took)
		}
		if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
	}
	must(t, m.Move(sessionKey(ids[0])))
	end(ids[0])
	must(t, m.Move(index))
	end(ids[1])
	must(t, m.Finish())
	end(ids[2])
	if list, err := s.Sessions(t.Context(), ownerOf("ada")); err != nil || len(list) != 0 {
		t.Errorf("%d sessions are left, error %v", len(list), err)
	}
}

// TestEndUserReportsAllSessionsWhileSlotMoves: a slot moves while a user signs in and is signed out everywhere. What is reported as ended is ended,
// and nothing that was there before is left.
func TestEndUserReportsAllSessionsWhileSlotMoves(t *testing.T) {
	limitParallel(t)
	cluster := redistest.StartCluster(t, redistest.Options{})
	s := mustOpen(t, clusterURL(cluster), redisstore.Options{Timeout: 20 * time.Second})
	for round := range 3 {
		user := fmt.Sprint("user", round)
		owner := driver.HashOf([]byte(user))
		var ids []driver.ID
		for range 10 {
			id, in := newSignIn(user, 0)
			if _, err := s.SignIn(t.Context(), id, in); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		handle := ids[0].String()
		slot := redistest.Slot("coatcheck:{" + handle[:4] + "}:")
		migration, _ := mustMigrate(t, cluster, slot)
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
		other := mustOpen(t, clusterURL(cluster), redisstore.Options{NearCache: -1})
		for _, id := range ids {
			if _, _, err := other.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
				t.Errorf("session %s after sign-out everywhere: %v, want ErrNotFound", id, err)
			}
		}
	}
}

// TestEndWaitsForReplicasWhileSlotMoves: an end that waits for replicas is done where the key is, also while its slot is on the way.
func TestEndWaitsForReplicasWhileSlotMoves(t *testing.T) {
	limitParallel(t)
	c := redistest.StartCluster(t, redistest.Options{})
	s := mustOpen(t, "redis+cluster://"+c.Addrs()[0], withReplicas(1))
	stays, o := newSession()
	moves, p := newSession()
	moves.Bucket = stays.Bucket // which is what the slot comes from
	mustCreate(t, s, stays, o)
	mustCreate(t, s, moves, p)
	m, _ := mustMigrate(t, c, redistest.Slot(sessionKey(stays)))
	must(t, m.Move(sessionKey(moves)))
	for name, id := range map[string]driver.ID{"not moved yet": stays, "moved": moves} {
		for _, again := range []string{"", ", again"} {
			if err := s.End(t.Context(), id); err != nil {
				t.Errorf("%s%s: %v", name, again, err)
			}
		}
		if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
}
