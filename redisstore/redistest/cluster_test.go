package redistest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

func TestCluster(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		begin := time.Now()
		c := redistest.StartCluster(t, redistest.Options{Server: s, Config: []string{"appendonly yes"}})
		t.Logf("started in %v", time.Since(begin))
		primaries, err := c.Primaries()
		ok(t, err)
		if !slices.Equal(primaries, c.Nodes[:3]) {
			t.Errorf("primaries are %v, want the first three nodes", primaries)
		}
		first := owner(t, c, 0)
		if first != c.Nodes[0] || owner(t, c, 5461) != c.Nodes[1] || owner(t, c, 16383) != c.Nodes[2] {
			t.Error("the slots are not in order")
		}
		key := keyOf(t, c, first)
		want(t, first, "OK", "SET", key, "v")

		promoted, err := c.Failover(first)
		ok(t, err)
		if promoted != c.Nodes[3] || owner(t, c, 0) != promoted {
			t.Error("Failover did not promote the replica")
		}
		want(t, promoted, "v", "GET", key)
		ok(t, c.Settle())

		begin = time.Now()
		ok(t, promoted.Kill())
		ok(t, c.Settle())
		t.Logf("replaced in %v", time.Since(begin))
		if owner(t, c, 0) != first {
			t.Error("the replica did not take over")
		}
		want(t, first, "v", "GET", key)
		ok(t, promoted.Restart())
		ok(t, c.Settle())
		if r, err := c.Replica(first); err != nil || r != promoted {
			t.Errorf("a restarted primary is not the replica of its successor: %v %v", r, err)
		}
	})
}

func owner(t *testing.T, c *redistest.Cluster, slot int) *redistest.Node {
	t.Helper()
	n, err := c.NodeOfSlot(slot)
	ok(t, err)
	return n
}

// other returns a primary that does not serve a slot.
func other(t *testing.T, c *redistest.Cluster, slot int) *redistest.Node {
	t.Helper()
	primaries, err := c.Primaries()
	ok(t, err)
	if primaries[0] == owner(t, c, slot) {
		return primaries[1]
	}
	return primaries[0]
}

// keyOf returns a key that a node serves.
func keyOf(t *testing.T, c *redistest.Cluster, n *redistest.Node) string {
	t.Helper()
	for i := range 1000 {
		if key := fmt.Sprint("key", i); owner(t, c, redistest.Slot(key)) == n {
			return key
		}
	}
	t.Fatal("no key found")
	return ""
}

func TestMigration(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		c := redistest.StartCluster(t, redistest.Options{Server: s})
		slot := redistest.Slot("{tag}")
		from, to := owner(t, c, slot), other(t, c, slot)
		for i := range 250 {
			want(t, from, "OK", "SET", fmt.Sprint("{tag}", i), fmt.Sprint(i))
		}
		m, err := c.Migrate(slot, to)
		ok(t, err)
		ok(t, m.Move("{tag}1", "{tag}2", "{tag}none"))
		want(t, from, fmt.Sprintf("ASK %d %s", slot, to.Addr()), "GET", "{tag}1")
		want(t, from, "3", "GET", "{tag}3")
		want(t, from, "TRYAGAIN", "MGET", "{tag}1", "{tag}3")
		want(t, to, fmt.Sprintf("MOVED %d %s", slot, from.Addr()), "GET", "{tag}1")

		ok(t, m.Finish())
		want(t, from, fmt.Sprintf("MOVED %d %s", slot, to.Addr()), "GET", "{tag}1")
		want(t, to, "[1 3 249]", "MGET", "{tag}1", "{tag}3", "{tag}249")
		if owner(t, c, slot) != to {
			t.Error("the slot did not move")
		}
		if _, err := c.Migrate(slot, to); err == nil {
			t.Error("a slot may migrate to its owner")
		}
	})
}

func TestClusterWithTLSAndUsers(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		c := redistest.StartCluster(t, redistest.Options{Server: s, TLS: true, Users: []string{"default off"}})
		if err := tryPing(c.Addrs()[0], c.Nodes[0].TLSConfig()); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
			t.Errorf("got %v, want a TLS server that asks for a password", err)
		}
		slot := redistest.Slot("{tag}")
		from, to := owner(t, c, slot), other(t, c, slot)
		want(t, from, "OK", "SET", "{tag}", "v")
		m, err := c.Migrate(slot, to)
		ok(t, err)
		ok(t, m.Finish())
		want(t, to, "v", "GET", "{tag}")
	})
}

func TestSlot(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t, redistest.Options{Config: []string{"cluster-enabled yes"}})
	for _, key := range []string{"", "123456789", "{tag}", "a{tag}b", "{}a", "a{b", "{{a}}", "{a}{b}", "é\x00"} {
		want(t, n, fmt.Sprint(redistest.Slot(key)), "CLUSTER", "KEYSLOT", key)
	}
}

func TestNodeOfSlotWithoutOwner(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, redistest.Options{})
	ok(t, c.Nodes[0].Kill())
	ok(t, c.Nodes[3].Kill())
	if _, err := c.NodeOfSlot(0); err == nil || !strings.Contains(err.Error(), "slot 0") {
		t.Errorf("got %v, want an error that names the slot", err)
	}
	if _, err := c.Failover(c.Nodes[0]); err == nil {
		t.Error("a primary without a replica fails over")
	}
}
