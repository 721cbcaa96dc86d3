package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

const watched session.Counter = "n"

// webNode is a process of several that serve one site.
type webNode struct{ *session.Manager }

// mustServe returns a process with a store of its own.
func mustServe(t testing.TB, url string, o redisstore.Options, timeout time.Duration) webNode {
	t.Helper()
	m, err := session.New(mustOpen(t, url, o), session.Config{
		CommitTimeout: time.Minute, WatchTimeout: timeout, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	return webNode{m}
}

// mustDo makes a request with the cookie, and returns the cookie that the browser has afterwards.
func (n webNode) mustDo(t testing.TB, cookie string, f func(ctx context.Context, s *session.Session) error) string {
	t.Helper()
	eventually(t, recovery, func() error { // the store may have an outage
		w := n.request(cookie, session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
			return f(r.Context(), s)
		}))
		if w.Code != http.StatusOK {
			return fmt.Errorf("status %d", w.Code)
		}
		for _, c := range w.Result().Cookies() {
			if c.MaxAge >= 0 { // a sign-in also deletes the anonymous cookie
				cookie = c.Name + "=" + c.Value
			}
		}
		return nil
	})
	return cookie
}

func (n webNode) request(cookie string, h http.Handler) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "https://shop.example/", http.NoBody)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	w := httptest.NewRecorder()
	n.Handler(h).ServeHTTP(w, r)
	return w
}

// mustSignIn returns the cookie of a session that is signed in.
func (n webNode) mustSignIn(t testing.TB, user string) string {
	t.Helper()
	cookie := n.mustDo(t, "", func(ctx context.Context, s *session.Session) error {
		return s.SignIn(ctx, session.Login{User: user})
	})
	return n.mustDo(t, cookie, func(context.Context, *session.Session) error { return nil })
}

func addOne(_ context.Context, s *session.Session) error { watched.Add(s, 1); return nil }

// openResponse is a response that watches its session and ends with the route.
type openResponse struct {
	mu     sync.Mutex
	n      int64 // the last value that the loop saw
	missed bool  // a change had Missed
	err    error // the loop's
	cause  error // of the route's context
	over   sync.WaitGroup
}

// watch opens a response.
func (n webNode) watch(t testing.TB, cookie string) *openResponse {
	t.Helper()
	w := &openResponse{n: -1}
	ctx, cancel := context.WithCancel(t.Context())
	note := func(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }
	open := make(chan struct{})
	w.over.Go(func() {
		n.request(cookie, session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
			held, stop := session.Route{SignedIn: true}.Context(r.Context())
			defer stop()
			w.over.Go(func() {
				select {
				case <-held.Done():
					note(func() { w.cause = context.Cause(held) })
				case <-ctx.Done():
				}
			})
			note(func() { w.n = watched.Get(s) })
			close(open)
			for change, err := range s.Watch(ctx) {
				note(func() { w.n, w.missed, w.err = watched.Get(s), w.missed || change.Missed, err })
			}
			<-ctx.Done() // stop would end the context
			return nil
		}))
	})
	t.Cleanup(func() { cancel(); w.over.Wait() })
	<-open
	return w
}

// mustSee waits until the response has seen the value.
func (w *openResponse) mustSee(t testing.TB, limit time.Duration, n int64) {
	t.Helper()
	eventually(t, limit, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.n != n || w.err != nil || w.cause != nil {
			return fmt.Errorf("the response saw %d, error %v, cause %v, want %d", w.n, w.err, w.cause, n)
		}
		return nil
	})
}

// mustEnd waits until the response's loop and context have ended with this error.
func (w *openResponse) mustEnd(t testing.TB, limit time.Duration, want error) {
	t.Helper()
	eventually(t, limit, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !errors.Is(w.err, want) || !errors.Is(w.cause, want) {
			return fmt.Errorf("the loop ended with %v, the context with %v, want %v", w.err, w.cause, want)
		}
		return nil
	})
}

// forget forgets that a change had Missed.
func (w *openResponse) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missed = false
}

func (w *openResponse) mustHaveMissed(t testing.TB, want bool) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.missed != want {
		t.Errorf("Missed is %t, want %t", w.missed, want)
	}
}

// TestWatchOnOtherNodes: a response sees what other nodes commit, and ends with the session.
func TestWatchOnOtherNodes(t *testing.T) {
	eachTopology(t, func(t *testing.T, url string, _ func(string, ...string) any) {
		a, b := mustServe(t, url, calm, 0), mustServe(t, url, calm, 0)
		for user, end := range map[string]func(cookie string){
			"sign-out": func(cookie string) {
				b.mustDo(t, cookie, func(ctx context.Context, s *session.Session) error { return s.SignOut(ctx) })
			},
			"revocation":        func(string) { _, err := b.RevokeUser(t.Context(), "revocation"); must(t, err) },
			"own revocation":    func(string) { _, err := a.RevokeUser(t.Context(), "own revocation"); must(t, err) },
			"revocation of all": func(string) { must(t, b.RevokeAll(t.Context())) },
		} {
			cookie := a.mustSignIn(t, user)
			w := a.watch(t, cookie)
			for i := range int64(5) {
				b.mustDo(t, cookie, addOne)
				w.mustSee(t, 2*time.Second, i+1)
			}
			w.mustHaveMissed(t, false)
			time.Sleep(2 * time.Millisecond) // a revocation covers what was created before
			end(cookie)
			w.mustEnd(t, 2*time.Second, session.ErrEnded)
		}
	})
}

// TestWatchPollsWithoutANearCache: the server does not report changes then.
func TestWatchPollsWithoutANearCache(t *testing.T) {
	limitParallel(t)
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	o := redisstore.Options{NearCache: -1, Timeout: calm.Timeout}
	a, b := mustServe(t, url, o, 0), mustServe(t, url, o, 0)
	cookie := a.mustSignIn(t, "ada")
	w := a.watch(t, cookie)
	b.mustDo(t, cookie, addOne)
	w.mustSee(t, 2*time.Second, 1)
	_, err := b.RevokeUser(t.Context(), "ada")
	must(t, err)
	w.mustEnd(t, 2*time.Second, session.ErrEnded)
}

// TestWatchOutlivesOutages: a response stays open while the server hangs, is away for 10 s, or
// closes the connections. Afterwards it sees what has changed.
func TestWatchOutlivesOutages(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{Config: []string{"appendonly yes", "appendfsync always"}})
	url := "redis://" + node.Addr()
	a, b := mustServe(t, url, redisstore.Options{}, time.Minute), mustServe(t, url, redisstore.Options{}, time.Minute)
	cookie := a.mustSignIn(t, "ada")
	w := a.watch(t, cookie)
	n := int64(0)
	for _, fault := range []func(){
		func() { must(t, node.Pause()); time.Sleep(lease + time.Second); must(t, node.Resume()) },
		func() { must(t, node.Kill()); time.Sleep(10 * time.Second); must(t, node.Restart()) },
		func() { _, err := node.Do("CLIENT", "KILL", "TYPE", "normal"); must(t, err) },
		func() { _, err := node.Do("CLIENT", "KILL", "TYPE", "normal"); must(t, err) },
	} {
		fault()
		b.mustDo(t, cookie, addOne)
		n++
		w.mustSee(t, recovery, n)
	}
	_, err := b.RevokeUser(t.Context(), "ada")
	must(t, err)
	w.mustEnd(t, time.Second, session.ErrEnded)
}

// TestWatchReportsAGap: two nodes do not reach the server for 10 s, while a third changes the
// session twice. The response on the first node stays open, sees the last state, and learns that it
// missed others. The second node ends its response after its own, shorter, time.
func TestWatchReportsAGap(t *testing.T) {
	limitParallel(t)
	server := redistest.Start(t, redistest.Options{})
	p := startProxy(t, server.Addr())
	far := "redis://" + p.Addr()
	patient, hasty := mustServe(t, far, redisstore.Options{}, time.Minute), mustServe(t, far, redisstore.Options{}, 3*time.Second)
	near := mustServe(t, "redis://"+server.Addr(), redisstore.Options{}, 0)
	cookie := near.mustSignIn(t, "ada")
	stays, ends := patient.watch(t, cookie), hasty.watch(t, cookie)
	near.mustDo(t, cookie, addOne)
	stays.mustSee(t, recovery, 1)
	stays.forget() // if the machine stalls, the store distrusts what it knows
	resume := p.stall()
	defer resume()
	for range 2 {
		near.mustDo(t, cookie, addOne)
	}
	began := time.Now()
	ends.mustEnd(t, lease+2*checkup+3*time.Second+recovery, session.ErrUnavailable)
	time.Sleep(time.Until(began.Add(10 * time.Second)))
	stays.mustSee(t, 0, 1)
	stays.mustHaveMissed(t, false)
	p.cut()
	resume()
	stays.mustSee(t, recovery, 3)
	stays.mustHaveMissed(t, true)
	_, err := near.RevokeUser(t.Context(), "ada")
	must(t, err)
	stays.mustEnd(t, recovery, session.ErrEnded)
}

// TestWatchEndsInALongOutage: a response ends when the store has been away for WatchTimeout.
func TestWatchEndsInALongOutage(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	a := mustServe(t, "redis://"+node.Addr(), redisstore.Options{}, 2*time.Second)
	w := a.watch(t, a.mustSignIn(t, "ada"))
	began := time.Now()
	must(t, node.Pause())
	defer func() { must(t, node.Resume()) }()
	w.mustEnd(t, lease+2*checkup+2*time.Second+recovery, session.ErrUnavailable)
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("the response ended after %v", took)
	}
}

// TestWatchReportsWhatAFailoverLost: the new primary does not have the last change. The response
// sees the older state, and that something is missing. Then it sees the next change.
func TestWatchReportsWhatAFailoverLost(t *testing.T) {
	for _, topology := range []struct {
		name  string
		start func(t *testing.T) (r *replicated, nodesOf func(key string) (primary *redistest.Node, replicas []*redistest.Node))
	}{{"Sentinel", sentinelNodes}, {"Cluster", clusterNodes}} {
		t.Run(topology.name, func(t *testing.T) {
			limitParallel(t)
			servers, nodesOf := topology.start(t)
			o := redisstore.Options{Lease: calm.Lease}
			a, b := mustServe(t, servers.url, o, 0), mustServe(t, servers.url, o, 0)
			cookie := a.mustSignIn(t, "ada")
			b.mustDo(t, cookie, addOne)
			w := a.watch(t, cookie)
			w.mustSee(t, 0, 1)
			must(t, servers.settle()) // the replicas have the session
			primary, replicas := nodesOf(a.mustFindKey(t, "ada"))
			for _, n := range replicas {
				must(t, n.Pause())
			}
			// Otherwise the replicas read the change later, from their sockets.
			_, err := primary.Do("CLIENT", "KILL", "TYPE", "replica")
			must(t, err)
			b.mustDo(t, cookie, addOne)
			w.mustSee(t, time.Second, 2)
			w.mustHaveMissed(t, false)
			servers.mustReplace(t, primary, func() error {
				err := primary.Kill()
				for _, n := range replicas {
					err = errors.Join(err, n.Resume())
				}
				return errors.Join(err, servers.setDownAfter(soon))
			})
			w.mustSee(t, recovery, 1)
			w.mustHaveMissed(t, true)
			b.mustDo(t, cookie, func(_ context.Context, s *session.Session) error { watched.Add(s, 9); return nil })
			w.mustSee(t, recovery, 10)
			_, err = b.RevokeUser(t.Context(), "ada")
			must(t, err)
			w.mustEnd(t, recovery, session.ErrEnded)
		})
	}
}

func sentinelNodes(t *testing.T) (*replicated, func(string) (*redistest.Node, []*redistest.Node)) {
	s := redistest.StartSentinel(t, steady)
	return ofSentinel(s), func(string) (*redistest.Node, []*redistest.Node) {
		primary, err := s.Primary()
		must(t, err)
		return primary, slices.DeleteFunc(slices.Clone(s.Nodes), func(n *redistest.Node) bool { return n == primary })
	}
}

func clusterNodes(t *testing.T) (*replicated, func(string) (*redistest.Node, []*redistest.Node)) {
	c := redistest.StartCluster(t, steady)
	return ofCluster(c), func(key string) (*redistest.Node, []*redistest.Node) {
		primary, err := c.NodeOfSlot(redistest.Slot(key))
		must(t, err)
		replica, err := c.Replica(primary)
		must(t, err)
		return primary, []*redistest.Node{replica}
	}
}

// mustFindKey returns the Redis key of the only session of a user.
func (n webNode) mustFindKey(t *testing.T, user string) string {
	t.Helper()
	for info, err := range n.Sessions(t.Context(), user) {
		must(t, err)
		bucket, name, _ := strings.Cut(info.Handle, "-")
		return "coatcheck:{" + bucket + "}:s:" + name
	}
	t.Fatal("the user has no session")
	return ""
}

// TestWatchNeedsNoCopy: a watched session is read with tracking although the store has no copy of
// it and does not know it. Otherwise the next change would not be reported.
func TestWatchNeedsNoCopy(t *testing.T) {
	limitParallel(t)
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	// No copy fits into this near cache.
	a, b := mustOpen(t, url, redisstore.Options{NearCache: 256, Timeout: calm.Timeout, Lease: calm.Lease}), mustOpen(t, url, calm)
	id, o := newSession()
	mustCreate(t, b, id, o)
	woken := make(chan struct{}, 1)
	stop := a.Watch(id, func(bool) {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	defer stop()
	for i := range int64(3) {
		r, _, err := a.Load(t.Context(), id)
		must(t, err)
		if n := counterOf(t, r); n != i {
			t.Errorf("the counter is %d, want %d", n, i)
		}
		_, err = b.Apply(t.Context(), id, increment(o))
		must(t, err)
		select {
		case <-woken:
		case <-time.After(anytime):
			t.Fatalf("change %d was not reported", i)
		}
	}
}
