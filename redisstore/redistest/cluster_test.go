package redistest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

func TestClusterReplacesPrimary(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		begin := time.Now()
		c := redistest.StartCluster(t, redistest.Options{
			Server: s, Config: []string{"appendonly yes"}, DownAfter: time.Hour,
		})
		t.Logf("started in %v", time.Since(begin))
		primaries, err := c.Primaries()
		must(t, err)
		if !slices.Equal(primaries, c.Nodes[:3]) {
			t.Errorf("the primaries are %v, want the first three nodes", primaries)
		}
		first := mustFindOwner(t, c, 0)
		if first != c.Nodes[0] || mustFindOwner(t, c, 5461) != c.Nodes[1] || mustFindOwner(t, c, 16383) != c.Nodes[2] {
			t.Error("the first three nodes do not serve the slots in order")
		}
		key := mustFindKey(t, c, first)
		mustReply(t, first, "OK", "SET", key, "v")

		promoted, err := c.Failover(first)
		must(t, err)
		if promoted != c.Nodes[3] || mustFindOwner(t, c, 0) != promoted {
			t.Error("Failover did not promote the primary's replica")
		}
		mustReply(t, promoted, "v", "GET", key)
		must(t, c.Settle())

		begin = time.Now()
		must(t, c.SetDownAfter(time.Second))
		must(t, promoted.Kill())
		must(t, c.Settle())
		must(t, c.SetDownAfter(time.Hour))
		t.Logf("replaced in %v", time.Since(begin))
		if mustFindOwner(t, c, 0) != first {
			t.Error("the replica did not replace the killed primary")
		}
		mustReply(t, first, "v", "GET", key)
		must(t, promoted.Restart())
		must(t, c.Settle())
		if r, err := c.Replica(first); err != nil || r != promoted {
			t.Errorf("the replica is %v, error %v, want the restarted old primary", r, err)
		}
	})
}

// mustFindOwner returns the primary that serves a slot.
func mustFindOwner(t *testing.T, c *redistest.Cluster, slot int) *redistest.Node {
	t.Helper()
	n, err := c.NodeOfSlot(slot)
	must(t, err)
	return n
}

// mustFindOtherPrimary returns a primary that does not serve a slot.
func mustFindOtherPrimary(t *testing.T, c *redistest.Cluster, slot int) *redistest.Node {
	t.Helper()
	primaries, err := c.Primaries()
	must(t, err)
	if primaries[0] == mustFindOwner(t, c, slot) {
		return primaries[1]
	}
	return primaries[0]
}

// mustFindKey returns a key that a node serves.
func mustFindKey(t *testing.T, c *redistest.Cluster, n *redistest.Node) string {
	t.Helper()
	for i := range 1000 {
		if key := fmt.Sprint("key", i); mustFindOwner(t, c, redistest.Slot(key)) == n {
			return key
		}
	}
	t.Fatal("the node serves none of 1000 keys")
	return ""
}

func TestMigrationRepliesAskAndMoved(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		c := redistest.StartCluster(t, redistest.Options{Server: s, DownAfter: time.Hour})
		slot := redistest.Slot("{tag}")
		from, to := mustFindOwner(t, c, slot), mustFindOtherPrimary(t, c, slot)
		for i := range 250 {
			mustReply(t, from, "OK", "SET", fmt.Sprint("{tag}", i), fmt.Sprint(i))
		}
		m, err := c.Migrate(slot, to)
		must(t, err)
		must(t, m.Move("{tag}1", "{tag}2", "{tag}none"))
		mustReply(t, from, fmt.Sprintf("ASK %d %s", slot, to.Addr()), "GET", "{tag}1")
		mustReply(t, from, "3", "GET", "{tag}3")
		mustReply(t, from, "TRYAGAIN", "MGET", "{tag}1", "{tag}3")
		mustReply(t, to, fmt.Sprintf("MOVED %d %s", slot, from.Addr()), "GET", "{tag}1")

		must(t, m.Finish())
		mustReply(t, from, fmt.Sprintf("MOVED %d %s", slot, to.Addr()), "GET", "{tag}1")
		mustReply(t, to, "[1 3 249]", "MGET", "{tag}1", "{tag}3", "{tag}249")
		if mustFindOwner(t, c, slot) != to {
			t.Error("the slot still belongs to the old primary after Finish")
		}
		if _, err := c.Migrate(slot, to); err == nil {
			t.Error("Migrate to the slot's own primary succeeds, want an error")
		}
	})
}

func TestClusterWorksWithTLSAndUsers(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		c := redistest.StartCluster(t, redistest.Options{
			Server: s, TLS: true, Users: []string{"default off"}, DownAfter: time.Hour,
		})
		err := tryPing(c.Addrs()[0], c.Nodes[0].TLSConfig())
		if err == nil || !strings.Contains(err.Error(), "NOAUTH") {
			t.Errorf("PING with TLS and without a password: %v, want NOAUTH", err)
		}
		slot := redistest.Slot("{tag}")
		from, to := mustFindOwner(t, c, slot), mustFindOtherPrimary(t, c, slot)
		mustReply(t, from, "OK", "SET", "{tag}", "v")
		m, err := c.Migrate(slot, to)
		must(t, err)
		must(t, m.Finish())
		mustReply(t, to, "v", "GET", "{tag}")
	})
}

func TestSlotAgreesWithServer(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t, redistest.Options{Config: []string{"cluster-enabled yes"}})
	for _, key := range []string{"", "123456789", "{tag}", "a{tag}b", "{}a", "a{b", "{{a}}", "{a}{b}", "é\x00"} {
		mustReply(t, n, fmt.Sprint(redistest.Slot(key)), "CLUSTER", "KEYSLOT", key)
	}
}

func TestNodeOfSlotFailsWithoutOwner(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, redistest.Options{})
	must(t, c.Nodes[0].Kill())
	must(t, c.Nodes[3].Kill())
	if _, err := c.NodeOfSlot(0); err == nil || !strings.Contains(err.Error(), "slot 0") {
		t.Errorf("NodeOfSlot: %v, want an error that names the slot", err)
	}
	if _, err := c.Failover(c.Nodes[0]); err == nil {
		t.Error("Failover without a replica succeeds, want an error")
	}
}
