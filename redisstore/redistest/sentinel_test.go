package redistest_test

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

func TestSentinelFailover(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		begin := time.Now()
		set := redistest.StartSentinel(t, redistest.Options{Server: s})
		t.Logf("started in %v", time.Since(begin))
		old := primary(t, set)
		if old != set.Nodes[0] {
			t.Error("the first node is not the primary")
		}
		want(t, old, "OK", "SET", "k", "v")
		ok(t, set.Settle())
		for _, addr := range set.Addrs() {
			ping(t, addr, nil)
		}
		begin = time.Now()
		promoted, err := set.Failover()
		ok(t, err)
		t.Logf("failed over in %v", time.Since(begin))
		if promoted == old || promoted != primary(t, set) {
			t.Error("Failover did not change the primary")
		}
		want(t, promoted, "v", "GET", "k")
		begin = time.Now()
		ok(t, set.Settle())
		t.Logf("settled in %v", time.Since(begin))
		want(t, old, "READONLY", "SET", "k", "w")
	})
}

func TestSentinelReplacesKilledPrimary(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		set := redistest.StartSentinel(t, redistest.Options{Server: s, Users: []string{"default off"}, TLS: true})
		old := primary(t, set)
		want(t, old, "OK", "SET", "k", "v")
		ok(t, set.Settle())
		for _, addr := range set.Addrs() {
			ping(t, addr, old.TLSConfig())
		}
		begin := time.Now()
		ok(t, old.Kill())
		ok(t, set.Settle())
		t.Logf("replaced in %v", time.Since(begin))
		if primary(t, set) == old {
			t.Fatal("the killed primary is still named")
		}
		want(t, primary(t, set), "v", "GET", "k")
		begin = time.Now()
		ok(t, set.Sentinels[0].Restart())
		ok(t, old.Restart())
		ok(t, set.Settle())
		t.Logf("whole again in %v", time.Since(begin))
		want(t, old, "READONLY", "SET", "k", "w")
	})
}

func primary(t *testing.T, s *redistest.Sentinel) *redistest.Node {
	t.Helper()
	n, err := s.Primary()
	ok(t, err)
	return n
}
