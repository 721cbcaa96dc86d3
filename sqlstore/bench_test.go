package sqlstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// BenchmarkBesideRedis times reads and writes in turns with those of redisstore, one after the
// other on one session, and reports the median of each. PostgreSQL and SQLite write to the disk at
// each commit, Redis once a second. All servers are reached through TCP on this machine.
func BenchmarkBesideRedis(b *testing.B) {
	server := startPostgres(b, "fsync = on")
	sqlite := place{"sqlite://" + b.TempDir() + "/sessions.db", options()}
	node := redistest.Start(b, redistest.Options{Config: []string{"appendonly yes"}})
	redis, err := redisstore.Open(b.Context(), "redis://"+node.Addr(), redisstore.Options{})
	must(b, err)
	defer redis.Close()
	type result struct {
		name  string
		run   func() error
		times []time.Duration
	}
	var all []*result
	for name, s := range map[string]driver.Store{
		"redis": redis, "postgres": place{server.url(), options()}.open(b), "sqlite": sqlite.open(b),
	} {
		id := mustCreate(b, s)
		load := func() error { _, _, err := s.Load(b.Context(), id); return err }
		if s == redis {
			load = func() error { _, _, err := redis.LoadFresh(b.Context(), id); return err }
		}
		all = append(all, &result{name: name + "-read", run: load}, &result{name: name + "-write", run: func() error {
			_, err := s.Apply(b.Context(), id, increment())
			return err
		}})
	}
	for b.Loop() {
		for _, r := range all {
			start := time.Now()
			must(b, r.run())
			r.times = append(r.times, time.Since(start))
		}
	}
	for _, r := range all {
		slices.Sort(r.times)
		b.ReportMetric(float64(r.times[len(r.times)/2].Microseconds()), r.name+"-µs")
	}
}
