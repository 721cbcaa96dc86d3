package redistest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

func TestSentinelFailoverReplacesPrimary(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		begin := time.Now()
		set := redistest.StartSentinel(t, redistest.Options{Server: s, DownAfter: time.Hour})
		t.Logf("started in %v", time.Since(begin))
		old := mustFindPrimary(t, set)
		if old != set.Nodes[0] {
			t.Error("the first node is not the primary")
		}
		mustReply(t, old, "OK", "SET", "k", "v")
		must(t, set.Settle())
		for _, addr := range set.Addrs() {
			mustPing(t, addr, nil)
		}
		begin = time.Now()
		promoted, err := set.Failover()
		must(t, err)
		t.Logf("failed over in %v", time.Since(begin))
		if promoted == old || promoted != mustFindPrimary(t, set) {
			t.Error("Failover did not replace the primary")
		}
		mustReply(t, promoted, "v", "GET", "k")
		begin = time.Now()
		must(t, set.Settle())
		t.Logf("settled in %v", time.Since(begin))
		mustReply(t, old, "READONLY", "SET", "k", "w")
	})
}

func TestSentinelReplacesKilledPrimary(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		set := redistest.StartSentinel(t, redistest.Options{
			Server: s, Users: []string{"default off"}, TLS: true, DownAfter: time.Hour,
		})
		old := mustFindPrimary(t, set)
		mustReply(t, old, "OK", "SET", "k", "v")
		must(t, set.Settle())
		for _, addr := range set.Addrs() {
			mustPing(t, addr, old.TLSConfig())
		}
		begin := time.Now()
		must(t, set.SetDownAfter(time.Second))
		must(t, old.Kill())
		must(t, set.Settle())
		must(t, set.SetDownAfter(time.Hour))
		t.Logf("replaced in %v", time.Since(begin))
		if mustFindPrimary(t, set) == old {
			t.Fatal("the sentinels still name the killed primary")
		}
		mustReply(t, mustFindPrimary(t, set), "v", "GET", "k")
		begin = time.Now()
		must(t, set.Sentinels[0].Restart())
		must(t, old.Restart())
		must(t, set.Settle())
		t.Logf("complete again in %v", time.Since(begin))
		mustReply(t, old, "READONLY", "SET", "k", "w")
	})
}

// TestStalledPrimaryIsNotReplaced pauses a primary for longer than a replica waits by default, but
// for less than Options.DownAfter. The others do not take it for down.
func TestStalledPrimaryIsNotReplaced(t *testing.T) {
	const longerThanDefault = 3 * time.Second
	stall := func(t *testing.T, n *redistest.Node) {
		t.Helper()
		must(t, n.Pause())
		time.Sleep(longerThanDefault)
		must(t, n.Resume())
	}
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		set := redistest.StartSentinel(t, redistest.Options{DownAfter: time.Hour})
		stall(t, set.Nodes[0])
		must(t, set.Settle())
		if n := mustFindPrimary(t, set); n != set.Nodes[0] || strings.Contains(set.Sentinels[0].Log(), "+sdown") {
			t.Errorf("the primary is %v, want the first node, which was not down\n%s", n, set.Sentinels[0].Log())
		}
	})
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		c := redistest.StartCluster(t, redistest.Options{DownAfter: time.Hour})
		before := len(c.Nodes[1].Log())
		stall(t, c.Nodes[0])
		must(t, c.Settle())
		log := c.Nodes[1].Log()[before:]
		if n := mustFindOwner(t, c, 0); n != c.Nodes[0] || strings.Contains(log, "FAIL") || strings.Contains(log, "failing") {
			t.Errorf("the primary is %v, want the first node, which did not fail\n%s", n, log)
		}
	})
}

// mustFindPrimary returns the server that the sentinels name as the primary.
func mustFindPrimary(t *testing.T, s *redistest.Sentinel) *redistest.Node {
	t.Helper()
	n, err := s.Primary()
	must(t, err)
	return n
}
