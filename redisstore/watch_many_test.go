package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// crowd is many responses that watch their sessions.
type crowd struct {
	changed, ended atomic.Int64 // responses that saw a change, and the end
	other          atomic.Pointer[error]
	bytes          int64 // of memory in use before they watched
	goroutines     int64 // the same
	clients        int   // connections to the server before they watched
	over           sync.WaitGroup
}

// crowdSize is 10,000. With the race detector it is less: goroutines are so slow then that the test
// would show nothing but that.
var crowdSize = func() int {
	if raceEnabled {
		return 2000
	}
	return 10_000
}()

// startForCrowd returns two processes, and the store of the first.
func startForCrowd(t *testing.T) (server *redistest.Node, store *redisstore.Store, a, b webNode) {
	t.Helper()
	server = redistest.Start(t, redistest.Options{})
	url := "redis://" + server.Addr()
	o := calm // the process is busy with 10,000 goroutines
	store = mustOpen(t, url, o)
	m, err := session.New(store, session.Config{CommitTimeout: time.Minute, WatchTimeout: 2 * time.Minute, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	return server, store, webNode{m}, mustServe(t, url, o, 0)
}

// mustGather opens the responses, each with one of the cookies, and returns when all
// sessions are watched.
func mustGather(t *testing.T, server *redistest.Node, store *redisstore.Store, n webNode, cookies []string) *crowd {
	t.Helper()
	c := &crowd{clients: infoNumber(t, server, "clients", connectedClients)}
	var open sync.WaitGroup
	open.Add(crowdSize)
	begin := make(chan struct{})
	for i := range crowdSize {
		c.over.Go(func() {
			served := false
			h := session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
				served = true
				open.Done()
				<-begin
				c.watch(t.Context(), s)
				return nil
			})
			for !served && t.Context().Err() == nil { // a busy server may seem to be down
				n.request(cookies[i%len(cookies)], h)
			}
		})
	}
	mustFinish(t, &open)
	c.bytes, c.goroutines = memoryInUse()
	reads := func() int {
		stats := nearStats(t, store)
		return int(stats.Hits + stats.Misses)
	}
	before := reads()
	close(begin)
	eventually(t, 5*time.Minute, func() error { // a watcher reads its session, or shares a read
		if n := reads() - before; n < len(cookies) {
			return fmt.Errorf("%d of %d sessions are watched", n, len(cookies))
		}
		return nil
	})
	return c
}

func (c *crowd) watch(ctx context.Context, s *session.Session) {
	seen := false
	for _, err := range s.Watch(ctx) {
		switch {
		case errors.Is(err, session.ErrEnded):
			c.ended.Add(1)
		case err != nil:
			c.other.Store(&err)
		case !seen:
			seen = true
			c.changed.Add(1)
		}
	}
}

// mustFinish waits for the group, but not for ever.
func mustFinish(t *testing.T, group *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Minute):
		t.Fatal("some responses are not as far as they should be")
	}
}

func memoryInUse() (bytes, goroutines int64) {
	var m runtime.MemStats
	for range 3 { // stacks shrink, too
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse), int64(runtime.NumGoroutine())
}

// mustSee waits until all responses have seen a change, or the end.
func (c *crowd) mustSee(t *testing.T, what string, seen *atomic.Int64) {
	t.Helper()
	eventually(t, 5*time.Minute, func() error {
		if n := seen.Load(); n != int64(crowdSize) {
			return fmt.Errorf("%d of %d responses have seen %s", n, crowdSize, what)
		}
		return nil
	})
}

const connectedClients = `connected_clients:(\d+)`

// mustBeCheap checks what idle watching takes.
func (c *crowd) mustBeCheap(t *testing.T, server *redistest.Node) {
	t.Helper()
	bytes, goroutines := memoryInUse()
	bytes, goroutines = (bytes-c.bytes)/int64(crowdSize), goroutines-c.goroutines
	t.Logf("each watcher takes %d bytes", bytes)
	if bytes > 8<<10 {
		t.Errorf("each watcher takes %d bytes, want at most 8 KiB", bytes)
	}
	if goroutines > 10 {
		t.Errorf("the watchers take %d goroutines beyond those of their handlers", goroutines)
	}
	eventually(t, anytime, func() error { // the store may replace a connection
		if n := infoNumber(t, server, "clients", connectedClients); n > c.clients {
			return fmt.Errorf("the server has %d connections, before the watchers came %d", n, c.clients)
		}
		return nil
	})
}

func (c *crowd) mustBeOver(t *testing.T) {
	t.Helper()
	c.mustSee(t, "the end", &c.ended)
	mustFinish(t, &c.over)
	if err := c.other.Load(); err != nil {
		t.Errorf("a response ended with %v", *err)
	}
}

// The tests are not parallel: they measure the memory and the goroutines of the process.

// TestTenThousandWatchersOfOneSession: all see a change and the end, and the session is read a few
// times for all of them. They have no connection of their own.
func TestTenThousandWatchersOfOneSession(t *testing.T) {
	server, store, a, b := startForCrowd(t)
	cookie := a.mustSignIn(t, "ada")
	b.mustDo(t, cookie, addOne)
	c := mustGather(t, server, store, a, []string{cookie})
	reads := commandCalls(t, server, "hgetall")
	b.mustDo(t, cookie, addOne)
	c.mustSee(t, "the change", &c.changed)
	c.mustBeCheap(t, server)
	if n := commandCalls(t, server, "hgetall") - reads; n > 40 {
		t.Errorf("the server read %d hashes for one change", n)
	}
	_, err := b.RevokeUser(t.Context(), "ada")
	must(t, err)
	c.mustBeOver(t)
}

// TestTenThousandWatchersOfTheirOwnSessions: each sees a change of its session alone, and all see
// the end of all sessions. They have no connection of their own.
func TestTenThousandWatchersOfTheirOwnSessions(t *testing.T) {
	server, store, a, b := startForCrowd(t)
	cookies := make([]string, crowdSize)
	var all sync.WaitGroup
	const workers = 16
	for worker := range workers {
		all.Go(func() {
			for i := worker; i < crowdSize && !t.Failed(); i += workers {
				cookies[i] = a.mustDo(t, "", addOne)
			}
		})
	}
	all.Wait()
	c := mustGather(t, server, store, a, cookies)
	c.mustBeCheap(t, server)
	for i := range 3 {
		b.mustDo(t, cookies[i], addOne)
	}
	eventually(t, anytime, func() error {
		if n := c.changed.Load(); n != 3 {
			return fmt.Errorf("%d responses have seen a change, want 3", n)
		}
		return nil
	})
	eventually(t, 5*time.Minute, func() error { return b.RevokeAll(t.Context()) })
	c.mustBeOver(t)
}
