package filestore_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
)

// fields are the fields of the sessions in these benchmarks: about 600 bytes on disk.
func fields() *driver.Change {
	c := &driver.Change{Verifier: verifier}
	for _, key := range []driver.Key{"theme", "language", "cart.items", "visits", "profile"} {
		c.Ops = append(c.Ops, driver.Op{Kind: driver.Set, Key: key, Value: []byte(`"` + strings.Repeat("x", 50) + `"`)})
	}
	c.Ops = append(c.Ops, driver.Op{Kind: driver.Add, Key: "n", Delta: 1})
	return c
}

// fillStore creates a store with n sessions.
func fillStore(b *testing.B, dir string, n int) {
	s, err := filestore.Open(dir, filestore.Options{Durability: filestore.Interval})
	must(b, err)
	for i := range n {
		create(b, s, i, fields())
	}
	closeStore(b, s)
}

// BenchmarkWrite adds to counters in 100,000 sessions. With Always, each operation is a durable
// write.
func BenchmarkWrite(b *testing.B) {
	const sessions = 100_000
	dir := b.TempDir()
	fillStore(b, dir, sessions)
	for _, o := range durabilities {
		for _, goroutines := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%v/%d", o.Durability, goroutines), func(b *testing.B) {
				s := open(b, dir, o)
				var next atomic.Int64
				done := make(chan error)
				b.ResetTimer()
				for range goroutines {
					go func() {
						for {
							n := int(next.Add(1))
							if n > b.N {
								done <- nil
								return
							}
							if _, err := s.Apply(ctx, idOf(n*7919%sessions), add("n", 1)); err != nil {
								done <- err
								return
							}
						}
					}()
				}
				for range goroutines {
					must(b, <-done)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
				closeStore(b, s)
			})
		}
	}
}

var many = flag.Int("sessions", 100_000, "how many sessions BenchmarkOpen opens")

// BenchmarkOpen opens a store with many sessions: go test -bench Open -sessions 1000000 -benchtime
// 3x
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	fillStore(b, dir, *many)
	info, err := os.Stat(file(dir))
	must(b, err)
	for b.Loop() {
		s, err := filestore.Open(dir, filestore.Options{})
		must(b, err)
		if n := s.Len(); n != *many {
			b.Fatalf("%d sessions were opened", n)
		}
		b.StopTimer()
		closeStore(b, s)
		runtime.GC()
		b.StartTimer()
	}
	b.ReportMetric(float64(info.Size())/float64(*many), "file-B/session")
}
