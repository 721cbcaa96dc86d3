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

// mustUseWhileSlotMoves changes and ends a session while its slot moves to another node.
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

// TestReshardingFailsNoChange moves a slot from node to node, step by step, under load. The servers
// reply ASK for keys that have moved, and MOVED at the end. No change fails.
func TestReshardingFailsNoChange(t *testing.T) {
	limitParallel(t)
	c := redistest.StartCluster(t, steady)
	s := mustOpen(t, "redis+cluster://"+c.Addrs()[0], calm)
	reader := mustOpen(t, "redis+cluster://"+c.Addrs()[1], calm)
	l := startLoad(t, s, 8)
	var ids []driver.ID
	for range 20 { // other sessions of the same slot, to read and end during the moves
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
		ended := ids[0]
		ids = ids[1:]
		must(t, s.End(t.Context(), ended))
		eventually(t, 100*time.Millisecond, func() error {
			if _, _, err := reader.Load(t.Context(), ended); !errors.Is(err, driver.ErrNotFound) {
				return errors.New("the other store still serves the ended session")
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

// mustMigrate begins to move a slot to another primary, which it also returns.
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

// mustMoveSlot moves the keys of a slot in small steps, and calls between after each step.
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

// TestRevocationHoldsWhileSlotMoves moves a slot, so that a session and its bucket's revocations
// may be on two servers. Live sessions can still be changed, and revoked sessions cannot.
func TestRevocationHoldsWhileSlotMoves(t *testing.T) {
	limitParallel(t)
	cluster := redistest.StartCluster(t, steady)
	url := clusterURL(cluster)
	a, b := mustOpen(t, url, calm), mustOpen(t, url, calm)
	const user = "ada"
	old, oldVerifier := mustSignIn(t, a, user)
	revocations := bucketKey(user, "n")
	node, err := cluster.NodeOfSlot(redistest.Slot(revocations))
	must(t, err)
	dump, err := node.Do("DUMP", sessionKey(old)) // to restore the session later, as from a backup
	must(t, err)
	time.Sleep(2 * time.Millisecond)
	_, err = a.EndUser(t.Context(), ownerOf(user), driver.Selection{})
	must(t, err)
	time.Sleep(2 * time.Millisecond)
	young, verifier := mustSignIn(t, a, user)
	for _, first := range [][]string{{revocations}, {sessionKey(young), sessionKey(old)}} {
		_, err = node.Do("RESTORE", sessionKey(old), "0", dump.(string), "REPLACE")
		must(t, err)
		m, to := mustMigrate(t, cluster, redistest.Slot(revocations))
		check := func() {
			t.Helper()
			for _, s := range []*redisstore.Store{a, b} {
				_ = within(t, 2*time.Second, func() error { mustBeAlive(t, s, young, verifier); return nil })
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

// TestEndAndReportDoesNotWaitForMovingSlot moves a slot, so that a session and its user's index may
// be on two servers. EndAndReport still ends the session at once.
func TestEndAndReportDoesNotWaitForMovingSlot(t *testing.T) {
	limitParallel(t)
	cluster := redistest.StartCluster(t, steady)
	s := mustOpen(t, clusterURL(cluster), calm)
	var ids []driver.ID
	for range 3 {
		id, _ := mustSignIn(t, s, "ada")
		ids = append(ids, id)
	}
	index := indexKey(ownerOf("ada"))
	m, _ := mustMigrate(t, cluster, redistest.Slot(index))
	mustEnd := func(id driver.ID) {
		t.Helper()
		var ended bool
		err := within(t, time.Second, func() (err error) {
			ended, err = s.EndAndReport(t.Context(), id, ownerOf("ada"), driver.Attempt{1})
			return err
		})
		if err != nil || !ended {
			t.Errorf("EndAndReport: %v, error %v; want true", ended, err)
		}
		if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("LoadFresh after EndAndReport: %v, want ErrNotFound", err)
		}
	}
	must(t, m.Move(sessionKey(ids[0])))
	mustEnd(ids[0])
	must(t, m.Move(index))
	mustEnd(ids[1])
	must(t, m.Finish())
	mustEnd(ids[2])
	if list, err := s.Sessions(t.Context(), ownerOf("ada"), driver.SessionCursor{}, 100); err != nil || len(list) != 0 {
		t.Errorf("Sessions returns %d, error %v, want none", len(list), err)
	}
}

// TestEndUserReportsAllSessionsWhileSlotMoves ends a user's sessions while their slot moves.
// EndUser reports every session as ended, and none is left.
func TestEndUserReportsAllSessionsWhileSlotMoves(t *testing.T) {
	limitParallel(t)
	cluster := redistest.StartCluster(t, steady)
	s := mustOpen(t, clusterURL(cluster), calm)
	for round := range 3 {
		user := fmt.Sprint("user", round)
		owner := driver.HashOf([]byte(user))
		var ids []driver.ID
		for range 10 {
			id, in := newSignIn(user, 0)
			_, err := s.SignIn(t.Context(), id, in)
			must(t, err)
			ids = append(ids, id)
		}
		handle := ids[0].String()
		slot := redistest.Slot("coatcheck:{" + handle[:4] + "}:")
		migration, _ := mustMigrate(t, cluster, slot)
		keys, err := migration.Keys()
		must(t, err)
		must(t, migration.Move(keys[:len(keys)/2]...)) // half of the keys are on each node
		finished := make(chan error, 1)
		go func() {
			time.Sleep(300 * time.Millisecond)
			finished <- migration.Finish()
		}()
		ended, err := s.EndUser(t.Context(), owner, driver.Selection{})
		must(t, err)
		must(t, <-finished)
		if len(ended) != len(ids) {
			t.Errorf("EndUser reports %d sessions as ended, want %d", len(ended), len(ids))
		}
		other := mustOpen(t, clusterURL(cluster), redisstore.Options{NearCache: -1})
		for _, id := range ids {
			if _, _, err := other.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
				t.Errorf("Load of session %s after EndUser: %v, want ErrNotFound", id, err)
			}
		}
	}
}

// TestEndWaitsForReplicasWhileSlotMoves ends sessions with Options.Replicas while their slot moves.
// End waits on the node that has the session's key.
func TestEndWaitsForReplicasWhileSlotMoves(t *testing.T) {
	limitParallel(t)
	c := redistest.StartCluster(t, steady)
	s := mustOpen(t, "redis+cluster://"+c.Addrs()[0], withReplicas(1))
	stays, o := newSession()
	moves, p := newSession()
	moves.Bucket = stays.Bucket // so that both have the same slot
	mustCreate(t, s, stays, o)
	mustCreate(t, s, moves, p)
	m, _ := mustMigrate(t, c, redistest.Slot(sessionKey(stays)))
	must(t, m.Move(sessionKey(moves)))
	for name, id := range map[string]driver.ID{"not moved yet": stays, "moved": moves} {
		for _, again := range []string{"", ", again"} {
			if err := s.End(t.Context(), id); err != nil {
				t.Errorf("End, %s%s: %v", name, again, err)
			}
		}
		if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("LoadFresh after End, %s: %v, want ErrNotFound", name, err)
		}
	}
}
