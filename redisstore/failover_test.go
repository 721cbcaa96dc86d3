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

// replicated is a set of servers with a primary that another one can replace.
type replicated struct {
	url       string
	settle    func() error
	primaries func() ([]*redistest.Node, error)
	planned   func() error // returns when the new primary can be reached
}

func startSentinel(t *testing.T) *replicated {
	t.Helper()
	s := redistest.StartSentinel(t, redistest.Options{})
	return &replicated{
		url: sentinelURL(s), settle: s.Settle,
		primaries: func() ([]*redistest.Node, error) { n, err := s.Primary(); return []*redistest.Node{n}, err },
		planned:   func() error { _, err := s.Failover(); return err },
	}
}

func startCluster(t *testing.T) *replicated {
	t.Helper()
	c := redistest.StartCluster(t, redistest.Options{})
	return &replicated{
		url: "redis+cluster://" + strings.Join(c.Addrs(), ","), settle: c.Settle, primaries: c.Primaries,
		planned: func() error { _, err := c.Failover(c.Nodes[0]); return err },
	}
}

var replacing = []struct {
	name  string
	start func(*testing.T) *replicated
}{{"Sentinel", startSentinel}, {"Cluster", startCluster}}

// TestFailover replaces a primary under load in three ways: nothing is done twice, nobody is signed out, and the store recovers by itself.
// What servers that replicate after they answer may lose is reported, not judged.
func TestFailover(t *testing.T) {
	for _, topology := range replacing {
		for _, how := range []string{"planned", "kill -9", "SIGSTOP"} {
			t.Run(topology.name+", "+how, func(t *testing.T) {
				few(t)
				r := topology.start(t)
				l := startLoad(t, open(t, r.url, redisstore.Options{}), 24)
				time.Sleep(500 * time.Millisecond) // so that the replicas have the sessions
				primaries, err := r.primaries()
				ok(t, err)
				primary := primaries[0]
				begin := time.Now()
				switch how {
				case "planned":
					ok(t, r.planned())
				case "kill -9":
					ok(t, primary.Kill())
				case "SIGSTOP":
					ok(t, primary.Pause())
				}
				l.recoversAll(begin)
				if how == "SIGSTOP" {
					ok(t, primary.Resume())
				}
				ok(t, r.settle())
				l.recoversAll(time.Now())
				l.exact(true)
			})
		}
	}
}

// recoversAll waits until changes of every session are acknowledged again.
func (l *load) recoversAll(since time.Time) {
	l.t.Helper()
	before := make([]int64, len(l.visitors))
	for i, c := range l.visitors {
		before[i] = c.acknowledged.Load()
	}
	for i, c := range l.visitors {
		for c.acknowledged.Load() == before[i] {
			if time.Since(since) > 20*time.Second {
				l.t.Fatalf("no change of session %s is acknowledged 20s later; the last error: %v", c.id, l.example.Load())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	l.recovers(since)
}

// TestEndsReasserted signs 1,000 sessions out around a failover. Five seconds after the new primary can be reached, none of which the end
// was acknowledged is alive, on the servers and for another store.
func TestEndsReasserted(t *testing.T) {
	for _, topology := range replacing {
		for _, how := range []string{"planned", "kill -9"} {
			t.Run(topology.name+", "+how, func(t *testing.T) {
				few(t)
				endAround(t, topology.start(t), how == "planned")
			})
		}
	}
}

func endAround(t *testing.T, r *replicated, planned bool) {
	s, other := open(t, r.url, redisstore.Options{}), open(t, r.url, redisstore.Options{})
	ids := createMany(t, s, 1000)
	primaries, err := r.primaries()
	ok(t, err)
	var all sync.WaitGroup
	var acknowledged sync.Map
	all.Go(func() { // over three seconds, from before the failover until after it
		var each sync.WaitGroup
		for _, id := range ids {
			each.Go(func() {
				if s.End(t.Context(), id) == nil {
					acknowledged.Store(id, nil)
				}
			})
			time.Sleep(3 * time.Millisecond)
		}
		each.Wait()
	})
	time.Sleep(2 * time.Second)
	if planned {
		ok(t, r.planned())
	} else {
		ok(t, primaries[0].Kill())
	}
	reached := reachable(t, other, ids)
	all.Wait()
	time.Sleep(time.Until(reached.Add(5 * time.Second)))
	alive := aliveOn(t, r)
	total, bad := 0, 0
	for _, id := range ids { // those included that failed: they are being repeated
		_, _, err := other.LoadFresh(t.Context(), id)
		if !errors.Is(err, driver.ErrNotFound) || alive[keyOf(id)] {
			bad++
		}
		if _, is := acknowledged.Load(id); is {
			total++
		}
	}
	t.Logf("%d of %d ends were acknowledged, %d are alive", total, len(ids), bad)
	if bad > 0 || total < 300 {
		t.Errorf("%d of %d ended sessions are alive, %d ends were acknowledged", bad, len(ids), total)
	}
}

// createMany creates sessions, and waits until the replicas may be taken to have them.
func createMany(t *testing.T, s *redisstore.Store, n int) (ids []driver.ID) {
	t.Helper()
	for range n {
		id, o := fresh()
		create(t, s, id, o)
		ids = append(ids, id)
	}
	time.Sleep(300 * time.Millisecond)
	return ids
}

// reachable waits until a store can read of every node, and returns when.
func reachable(t *testing.T, s *redisstore.Store, ids []driver.ID) time.Time {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		for _, id := range ids[:30] {
			if _, _, err := s.LoadFresh(t.Context(), id); err != nil && !errors.Is(err, driver.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	return time.Now()
}

// aliveOn returns the keys that the primaries have. One that was deposed may have more until it is told.
func aliveOn(t *testing.T, r *replicated) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	primaries, err := r.primaries()
	ok(t, err)
	for _, n := range primaries {
		reply, err := n.Do("KEYS", "*")
		ok(t, err)
		for _, key := range reply.([]any) {
			keys[fmt.Sprint(key)] = true
		}
	}
	return keys
}
