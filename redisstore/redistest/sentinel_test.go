package redistest_test

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

func TestSentinelFailoverReplacesPrimary(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		begin := time.Now()
		set := redistest.StartSentinel(t, redistest.Options{Server: s})
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
		set := redistest.StartSentinel(t, redistest.Options{Server: s, Users: []string{"default off"}, TLS: true})
		old := mustFindPrimary(t, set)
		mustReply(t, old, "OK", "SET", "k", "v")
		must(t, set.Settle())
		for _, addr := range set.Addrs() {
			mustPing(t, addr, old.TLSConfig())
		}
		begin := time.Now()
		must(t, old.Kill())
		must(t, set.Settle())
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

// mustFindPrimary returns the server that the sentinels name as the primary.
func mustFindPrimary(t *testing.T, s *redistest.Sentinel) *redistest.Node {
	t.Helper()
	n, err := s.Primary()
	must(t, err)
	return n
}
