package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestResharding moves a slot to another node, there and back, step by step, while its sessions are counted in: ASK for those that have
// moved, MOVED at the end. No change fails.
func TestResharding(t *testing.T) {
	few(t)
	c := redistest.StartCluster(t, redistest.Options{})
	s := open(t, "redis+cluster://"+c.Addrs()[0], redisstore.Options{})
	reader := open(t, "redis+cluster://"+c.Addrs()[1], redisstore.Options{})
	l := startLoad(t, s, 8)
	var ids []driver.ID
	for range 20 { // more of the first session's slot, which are read and ended meanwhile
		id, o := fresh()
		id.Bucket = l.visitors[0].id.Bucket
		create(t, s, id, o)
		ids = append(ids, id)
	}
	for i := range 4 {
		moveSlot(t, c, redistest.Slot(keyOf(ids[0])), c.Nodes[(i+1)%3], func() {
			for _, id := range ids {
				_, _, err := reader.Load(t.Context(), id)
				ok(t, err)
			}
			time.Sleep(20 * time.Millisecond)
		})
		gone := ids[0]
		ids = ids[1:]
		ok(t, s.End(t.Context(), gone))
		eventually(t, 100*time.Millisecond, func() error {
			if _, _, err := reader.Load(t.Context(), gone); !errors.Is(err, driver.ErrNotFound) {
				return errors.New("the end is not seen by the other store")
			}
			return nil
		})
	}
	l.exact(false)
	for _, v := range l.visitors {
		if n := v.unknown.Load() + l.refused.Load(); n > 0 {
			t.Fatalf("%d changes failed: %v", n, l.example.Load())
		}
	}
}

// migrate begins to move a slot from the node that has it to another, which it returns, too.
func migrate(t *testing.T, c *redistest.Cluster, slot int) (m *redistest.Migration, to *redistest.Node) {
	t.Helper()
	from, err := c.NodeOfSlot(slot)
	ok(t, err)
	primaries, err := c.Primaries()
	ok(t, err)
	if to = primaries[0]; to == from {
		to = primaries[1]
	}
	m, err = c.Migrate(slot, to)
	ok(t, err)
	return m, to
}

// moveSlot moves the keys of a slot one by one, and calls between after each.
func moveSlot(t *testing.T, c *redistest.Cluster, slot int, to *redistest.Node, between func()) {
	t.Helper()
	if owner, err := c.NodeOfSlot(slot); err != nil || owner == to {
		return
	}
	m, err := c.Migrate(slot, to)
	ok(t, err)
	between()
	for {
		keys, err := m.Keys()
		ok(t, err)
		if len(keys) == 0 {
			break
		}
		ok(t, m.Move(keys[:min(len(keys), 7)]...))
		between()
	}
	ok(t, m.Finish())
	between()
}
