package redisstore_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// BenchmarkWatch prints the figures of docs/streaming.md. It does not use b.N.
//
//   - commit: from the call of Commit to a watcher on another node, at 100 commits a second.
//   - revoke, revoke-all: from the call of RevokeUser, or RevokeAll, to the end of 1,000 responses
//     on two nodes.
//   - sockets: from the call to the client that sees its connection closed. 1,000 event streams
//     over TCP on two nodes: of one user with a session each, of 1,000 users who are revoked at
//     once, and one by one.
//   - writes: three nodes change one session 60 times a second each. Reads of the session and CPU
//     time of the server for each change, beside those of a bare HINCRBY.
//   - idle: what 10,000 idle watchers take, beyond the handlers that wait.
func BenchmarkWatch(b *testing.B) {
	url := "redis://" + redistest.Start(b, redistest.Options{}).Addr()
	node, other := mustServe(b, url, redisstore.Options{}, 0), mustServe(b, url, redisstore.Options{}, 0)
	b.Run("commit", func(b *testing.B) { measureCommits(b, node, other) })
	b.Run("writes", func(b *testing.B) {
		measureWrites(b, url, []webNode{node, other, mustServe(b, url, redisstore.Options{}, 0)})
	})
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
	b.Run("sockets", measureSockets)
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

func measureSockets(b *testing.B) {
	const rounds, responses = 5, 1000
	nodes := startSocketNodes(b)
	// measure calls revoke for each user, and measures until the sockets of that user are closed.
	measure := func(b *testing.B, users []string, revoke func(users []string, called func(i int)) error) {
		var took []time.Duration
		for range rounds {
			sockets, _ := mustOpenSockets(b, nodes, users)
			time.Sleep(500 * time.Millisecond) // each has read its session
			began := make([]time.Time, responses)
			must(b, revoke(users, func(i int) { began[i] = time.Now() }))
			limit := time.After(time.Minute)
			for i, s := range sockets {
				s.mustClose(b, limit)
				took = append(took, s.at.Sub(began[i]))
			}
		}
		reportTimes(b, took)
	}
	all := func(called func(i int)) {
		for i := range responses {
			called(i)
		}
	}
	b.Run("user", func(b *testing.B) {
		measure(b, sameUser("ada", responses), func(_ []string, called func(i int)) error {
			all(called)
			_, err := nodes[1].RevokeUser(b.Context(), "ada")
			return err
		})
	})
	// What the connections alone take: the server ends the responses, and nobody is revoked.
	b.Run("limit", func(b *testing.B) {
		measure(b, sameUser("ada", responses), func(_ []string, called func(i int)) error {
			all(called)
			for _, n := range nodes {
				n.cut()
			}
			return nil
		})
	})
	b.Run("everybody", func(b *testing.B) {
		measure(b, differentUsers(responses), func(_ []string, called func(i int)) error {
			all(called)
			return nodes[1].RevokeAll(b.Context())
		})
	})
	b.Run("one-by-one", func(b *testing.B) {
		measure(b, differentUsers(responses), func(users []string, called func(i int)) error {
			for i, user := range users {
				called(i)
				if _, err := nodes[1].RevokeUser(b.Context(), user); err != nil {
					return err
				}
			}
			return nil
		})
	})
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

func measureWrites(b *testing.B, url string, nodes []webNode) {
	const changes, pace = 300, time.Second / 60
	cookie := nodes[0].mustSignIn(b, "ada")
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{strings.TrimPrefix(url, "redis://")}, DisableCache: true,
	})
	must(b, err)
	b.Cleanup(c.Close)
	// each calls write from each node at the pace, all in responses that stay open.
	each := func(write func(ctx context.Context, s *session.Session) error) {
		var all sync.WaitGroup
		for _, node := range nodes {
			all.Go(func() {
				node.mustDo(b, cookie, func(ctx context.Context, s *session.Session) error {
					begin := time.Now()
					for i := range changes {
						time.Sleep(time.Until(begin.Add(time.Duration(i) * pace)))
						if err := write(ctx, s); err != nil {
							return err
						}
					}
					return nil
				})
			})
		}
		all.Wait()
	}
	for _, way := range []struct {
		name  string
		write func(ctx context.Context, s *session.Session) error
	}{
		{"HINCRBY", func(ctx context.Context, _ *session.Session) error {
			return c.Do(ctx, c.B().Hincrby().Key("other").Field("n").Increment(1).Build()).Error()
		}},
		{"AddWithin", func(ctx context.Context, s *session.Session) error {
			_, err := watched.AddWithin(ctx, s, 1, 0, 1_000_000)
			return err
		}},
		{"Commit", func(ctx context.Context, s *session.Session) error {
			watched.Add(s, 1)
			return s.Commit(ctx)
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			reads, used := serverWork(b, c)
			each(way.write) // what the responses read when they begin is too little to matter
			readsAfter, usedAfter := serverWork(b, c)
			n := float64(changes * len(nodes))
			b.ReportMetric(float64(readsAfter-reads)/n, "reads/write")
			b.ReportMetric(float64(usedAfter-used)/n/float64(time.Microsecond), "server-µs/write")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// serverWork returns how many sessions were read from the server, and its CPU time. A read is two
// commands: it reads the bucket's revocations, too.
func serverWork(b *testing.B, c rueidis.Client) (reads int64, used time.Duration) {
	info, err := c.Do(b.Context(), c.B().Info().Section("all").Build()).ToString()
	must(b, err)
	var user, system float64
	for line := range strings.Lines(info) {
		_, _ = fmt.Sscanf(line, "used_cpu_user_main_thread:%g", &user)
		_, _ = fmt.Sscanf(line, "used_cpu_sys_main_thread:%g", &system)
		_, _ = fmt.Sscanf(line, "cmdstat_hgetall:calls=%d", &reads)
	}
	return reads / 2, time.Duration((user + system) * float64(time.Second))
}
