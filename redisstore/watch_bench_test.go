package redisstore_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// BenchmarkWatch prints the figures of docs/streaming.md. It does not use b.N.
//
//   - commit: from the call of Commit to a watcher on another node, at 100 commits a second.
//   - revoke, revoke-all: from the call of RevokeUser, or RevokeAll, to the end of 1,000 responses
//     on two nodes.
//   - idle: what 10,000 idle watchers take, beyond the handlers that wait.
func BenchmarkWatch(b *testing.B) {
	url := "redis://" + redistest.Start(b, redistest.Options{}).Addr()
	node, other := mustServe(b, url, redisstore.Options{}, 0), mustServe(b, url, redisstore.Options{}, 0)
	b.Run("commit", func(b *testing.B) { measureCommits(b, node, other) })
	for _, sessions := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("revoke/sessions=%d", sessions), func(b *testing.B) {
			measureRevocations(b, node, other, sessions, func() error {
				_, err := other.RevokeUser(b.Context(), "ada")
				return err
			})
		})
	}
	b.Run("revoke-all/sessions=1000", func(b *testing.B) {
		measureRevocations(b, node, other, 1000, func() error { return other.RevokeAll(b.Context()) })
	})
	for _, sessions := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("idle/sessions=%d", sessions), func(b *testing.B) { measureIdle(b, node, sessions) })
	}
}

// reportTimes reports percentiles of some durations in milliseconds.
func reportTimes(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(ms(took[len(took)-1]), "max-ms")
	b.ReportMetric(0, "ns/op")
}

// serveOpen serves a response that stays open until ctx is done.
func (n webNode) serveOpen(ctx context.Context, cookie string, f func(ctx context.Context, s *session.Session)) {
	n.request(cookie, session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		f(r.Context(), s)
		<-ctx.Done()
		return nil
	}))
}

func measureCommits(b *testing.B, writer, reader webNode) {
	const changes, pace = 1000, 10 * time.Millisecond
	cookie := writer.mustSignIn(b, "ada")
	ctx, cancel := context.WithCancel(b.Context())
	var sent [changes + 1]atomic.Int64
	begin := time.Now()
	var took []time.Duration
	var all sync.WaitGroup
	open := make(chan struct{})
	all.Go(func() {
		reader.serveOpen(ctx, cookie, func(_ context.Context, s *session.Session) {
			close(open)
			seen := int64(0)
			for range s.Watch(ctx) {
				now, n := time.Since(begin), watched.Get(s)
				for seen < n {
					seen++
					took = append(took, now-time.Duration(sent[seen].Load()))
				}
				if seen == changes {
					break
				}
			}
		})
	})
	<-open
	writer.mustDo(b, cookie, func(_ context.Context, s *session.Session) error {
		for i := range changes {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * pace)))
			sent[i+1].Store(int64(time.Since(begin)))
			watched.Add(s, 1)
			if err := s.Commit(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	time.Sleep(time.Second)
	cancel()
	all.Wait()
	if len(took) != changes {
		b.Fatalf("the watcher saw %d of %d changes", len(took), changes)
	}
	reportTimes(b, took)
}

func measureRevocations(b *testing.B, x, y webNode, sessions int, revoke func() error) {
	const rounds, responses = 5, 1000
	var took []time.Duration
	for range rounds {
		cookies := make([]string, sessions)
		for i := range cookies {
			cookies[i] = x.mustSignIn(b, "ada")
		}
		ctx, cancel := context.WithCancel(b.Context())
		var open, all, over sync.WaitGroup
		over.Add(responses)
		open.Add(responses)
		at := make([]time.Time, responses)
		for i := range responses {
			node := []webNode{x, y}[i%2]
			all.Go(func() {
				node.serveOpen(ctx, cookies[i%sessions], func(rctx context.Context, _ *session.Session) {
					held, stop := session.Route{SignedIn: true}.Context(rctx)
					defer stop()
					open.Done()
					<-held.Done()
					at[i] = time.Now()
					over.Done()
				})
			})
		}
		open.Wait()
		time.Sleep(500 * time.Millisecond) // each has read its session
		began := time.Now()
		if err := revoke(); err != nil {
			b.Fatal(err)
		}
		b.Logf("the revocation took %v", time.Since(began))
		over.Wait() // or the benchmark hangs
		for i := range at {
			took = append(took, at[i].Sub(began))
		}
		cancel()
		all.Wait()
	}
	reportTimes(b, took)
}

func measureIdle(b *testing.B, node webNode, sessions int) {
	const watchers = 10_000
	cookies := make([]string, sessions)
	for i := range cookies {
		cookies[i] = node.mustSignIn(b, fmt.Sprint("user", i))
	}
	ctx, cancel := context.WithCancel(b.Context())
	var open, watching, all sync.WaitGroup
	begin := make(chan struct{})
	open.Add(watchers)
	watching.Add(watchers)
	for i := range watchers {
		all.Go(func() {
			node.serveOpen(ctx, cookies[i%sessions], func(rctx context.Context, s *session.Session) {
				open.Done()
				<-begin
				_, stop := session.Route{SignedIn: true}.Context(rctx)
				defer stop()
				watching.Done()
				for range s.Watch(ctx) {
					b.Error("a change")
				}
			})
		})
	}
	used := func() (bytes, goroutines int) {
		time.Sleep(2 * time.Second)
		var m runtime.MemStats
		for range 3 { // stacks shrink, too
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()
	}
	open.Wait()
	bytes, goroutines := used()
	close(begin)
	watching.Wait()
	bytesAfter, goroutinesAfter := used()
	b.ReportMetric(float64(bytesAfter-bytes)/watchers, "B/watcher")
	b.ReportMetric(float64(goroutinesAfter-goroutines)/watchers, "goroutines/watcher")
	b.ReportMetric(0, "ns/op")
	cancel()
	all.Wait()
}
