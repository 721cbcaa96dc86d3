package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// bodyHandler changes the session and then sends headers and a body of a success. The commit fails
// at the first byte.
func bodyHandler(change func(*session.Session) error) session.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_ = change(s)
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", "11")
		h.Set("Content-Encoding", "identity")
		h.Set("Content-Disposition", "attachment")
		h.Set("ETag", `"1"`)
		h.Set("Last-Modified", "Sat, 21 Nov 2026 09:00:00 GMT")
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("Location", "/paid")
		h.Set("Set-Cookie", "paid=yes")
		h.Set("X-Frame-Options", "DENY")
		w.WriteHeader(http.StatusCreated)
		_, err := io.WriteString(w, `{"ok":true}`)
		n.Add(s, 100) // must be lost: the client has got an error
		return err
	}
}

// bodyHeaders are the headers of bodyHandler that belong to its body.
var bodyHeaders = []string{"Content-Encoding", "Content-Disposition", "Etag", "Last-Modified", "Location", "Set-Cookie"}

// TestFailedCommitGivesOneCleanAnswer: the client gets one error response, with nothing of the
// handler's body or its headers. Other libraries sent two bodies under one header.
func TestFailedCommitGivesOneCleanAnswer(t *testing.T) {
	big := strings.Repeat("x", 100)
	for _, tt := range []struct {
		name   string
		damage func(f *faultyStore)
		change func(*session.Session) error
		status int
		log    string
	}{
		{"store down", func(f *faultyStore) { f.fail("apply", errDown) }, increment, 503, "redis-7.internal"},
		{"outcome unknown", func(f *faultyStore) { f.fail("apply", driver.ErrUnknown) }, increment, 503,
			"may or may not"},
		{"ended meanwhile", func(f *faultyStore) { f.fail("apply", driver.ErrNotFound) }, increment, 409, "ended"},
		{"token replaced meanwhile", func(f *faultyStore) { f.fail("apply", driver.ErrMoved) }, increment, 409,
			"ended"},
		{"too large", func(*faultyStore) {}, func(s *session.Session) error { theme.Set(s, big); return nil }, 500,
			"theme"},
		{"not JSON", func(*faultyStore) {},
			func(s *session.Session) error { session.Value[chan int]("pipe").Set(s, nil); return nil }, 500, "pipe"},
		{"bad name", func(*faultyStore) {},
			func(s *session.Session) error { session.Counter("a b").Add(s, 1); return nil }, 500, "a b"},
		{"not a counter", func(*faultyStore) {}, func(s *session.Session) error {
			theme.Set(s, "x")
			session.Counter("theme").Add(s, 1)
			return nil
		}, 500, "theme"},
		{"overflow", func(*faultyStore) {}, func(s *session.Session) error { n.Add(s, 1<<63-1); return nil }, 500, `n\"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBothProtocols(t, func(t *testing.T, http2 bool) {
				s := newSite(t, session.Config{MaxSize: 100})
				srv, c := s.newServer(t, http2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					h := bodyHandler(tt.change)
					if r.URL.Path == "/new" {
						h = func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
							n.Add(s, 1)
							return nil
						}
					}
					h.ServeHTTP(w, r)
				}))
				mustFetch(t, c, srv.URL+"/new")
				tt.damage(s.store)
				res, body := mustFetch(t, c, srv.URL)
				if res.StatusCode != tt.status {
					t.Errorf("status %d, want %d", res.StatusCode, tt.status)
				}
				if strings.Contains(body, "ok") || strings.Contains(body, "redis") || strings.Contains(body, "theme") ||
					strings.Count(body, "\n") != 1 {
					t.Errorf("body %q", body)
				}
				for _, name := range bodyHeaders {
					if v := res.Header[name]; v != nil {
						t.Errorf("the error response has %s: %s", name, v)
					}
				}
				if got := res.Header.Get("Cache-Control"); strings.Contains(got, "public") {
					t.Errorf("Cache-Control %q", got)
				}
				if res.Header.Get("X-Frame-Options") != "DENY" {
					t.Error("a header that does not belong to the body is missing")
				}
				if (res.Header.Get("Retry-After") != "") != (tt.status == 503 && tt.name != "outcome unknown") {
					t.Errorf("Retry-After %q", res.Header["Retry-After"])
				}
				if log := s.log.String(); !strings.Contains(log, tt.log) || strings.Count(log, "request failed") != 1 ||
					strings.Contains(log, "superfluous") {
					t.Errorf("want %q and one \"request failed\" in the log: %s", tt.log, log)
				}
				s.store.up()
				if res, _ := mustFetch(t, c, srv.URL+"/new"); res.StatusCode != 200 || s.store.Len() != 1 {
					t.Errorf("afterwards: %d, %d sessions", res.StatusCode, s.store.Len())
				}
			})
		})
	}
}

// TestFailedRequestStoresNothing: changes after the error response belong to the same failed
// request.
func TestFailedRequestStoresNothing(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		n.Add(ses, 10)
		s.store.fail("apply", errDown)
		io.WriteString(w, "page")
		s.store.up()
		n.Add(ses, 100)
		if err := ses.Commit(r.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Commit after the answer: %v", err)
		}
		if err := ses.Reload(r.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Reload after the answer: %v", err)
		}
		n.Add(ses, 1000)
		return nil
	})
	if got := v.count(); got != 1 {
		t.Errorf("n = %d, want 1", got)
	}
}

// TestFailedCommitLeavesTheSessionUsable: calls after a failed commit do not block. In another
// library they did.
func TestFailedCommitLeavesTheSessionUsable(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	s.store.fail("apply", errDown)
	v.do(func(ses *session.Session) error {
		n.Add(ses, 1)
		ses.Commit(t.Context())
		n.Add(ses, 1)
		n.Get(ses)
		return ses.Commit(t.Context())
	})
	s.store.up()
	v.do(increment)
	mustEqual(t, "n", v.count(), 2)
}

// TestStreamEndsWhenTheCommitFails: Flush returns the error. The client has the error response
// while the handler still runs.
func TestStreamEndsWhenTheCommitFails(t *testing.T) {
	onBothProtocols(t, func(t *testing.T, http2 bool) {
		s := newSite(t, session.Config{})
		s.store.fail("create", errDown)
		answered := make(chan struct{})
		srv, c := s.newServer(t, http2,
			session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				n.Add(ses, 1)
				err := http.NewResponseController(w).Flush()
				if !errors.Is(err, session.ErrUnavailable) {
					t.Errorf("Flush: %v", err)
				}
				<-answered
				if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, session.ErrUnavailable) {
					t.Errorf("Hijack: %v", err)
				}
				return err
			}))
		res, err := c.Get(srv.URL)
		close(answered)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 503 || strings.Count(s.log.String(), "request failed") != 1 {
			t.Errorf("%d %q, %v; log %s", res.StatusCode, body, err, s.log)
		}
	})
}

// TestClientThatHangsUpDoesNotLoseTheCommit closes a real connection while the handler runs.
func TestClientThatHangsUpDoesNotLoseTheCommit(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	running, done := make(chan struct{}), make(chan struct{})
	url := newPlainServer(t,
		s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			defer close(done)
			n.Add(ses, 1)
			close(running)
			<-r.Context().Done() // the client has closed the connection
			if err := ses.Commit(r.Context()); err != nil {
				t.Errorf("Commit: %v", err)
			}
			n.Add(ses, 1)
			io.WriteString(w, "page")
			return nil
		})))
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nCookie: %s\r\n\r\n", v.cookie)
	<-running
	conn.Close()
	<-done
	if got := v.count(); got != 3 {
		t.Errorf("n = %d, want 3", got)
	}
}

// TestCommitTimeoutBoundsAHangingStore: each call that writes returns after Config.CommitTimeout.
func TestCommitTimeoutBoundsAHangingStore(t *testing.T) {
	for name, f := range map[string]func(ctx context.Context, ses *session.Session) error{
		"at the end": func(ctx context.Context, ses *session.Session) error { n.Add(ses, 1); return nil },
		"Commit":     func(ctx context.Context, ses *session.Session) error { n.Add(ses, 1); return ses.Commit(ctx) },
		"Renew":      func(ctx context.Context, ses *session.Session) error { return ses.Renew(ctx) },
		"SignOut":    func(ctx context.Context, ses *session.Session) error { return ses.SignOut(ctx) },
		"Update": func(ctx context.Context, ses *session.Session) error {
			_, err := theme.Update(ctx, ses, func(string) (string, error) { return "dark", nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, session.Config{})
				v := s.known()
				m, err := session.New(hangingStore{s.store},
					session.Config{CommitTimeout: 3 * time.Second, Logger: newSite(t, session.Config{}).logger()})
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				w := v.request("GET",
					m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
						return f(r.Context(), ses)
					})))
				mustAnswer(t, w, 503)
				if took := time.Since(begin); took < 3*time.Second || took > 3*time.Second+time.Millisecond {
					t.Errorf("it took %v, want 3s", took)
				}
			})
		})
	}
}

// TestUnknownOutcomeIsNotSentAgain: an addition that is sent twice would count twice. A store
// repeats the calls that it can repeat safely.
func TestUnknownOutcomeIsNotSentAgain(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	s.store.applies.Store(0)
	// The change is stored, but its result is lost.
	s.store.after = func(string) error { return driver.ErrUnknown }
	send := func(v *visitor, change func(*session.Session) error) {
		t.Helper()
		w := v.do(func(ses *session.Session) error {
			err := change(ses)
			if err != nil && !errors.Is(err, session.ErrUnknownOutcome) {
				t.Errorf("%v, want ErrUnknownOutcome", err)
			}
			return err
		})
		if mustAnswer(t, w, 503); len(cookies(w)) != 0 {
			t.Errorf("Set-Cookie %q", cookies(w))
		}
	}
	send(v, increment)
	if s.store.applies.Load() != 1 || v.count() != 2 {
		t.Errorf("sent %d times, n = %d, want 2", s.store.applies.Load(), v.count())
	}
	send(s.visitor(), increment)
	mustEqual(t, "sessions", s.store.Len(), 2)
	send(v, renew)
	mustEqual(t, "changes sent", int(s.store.applies.Load()), 2)
	send(s.visitor(), signIn("ada"))
	mustEqual(t, "sign-ins sent", int(s.store.signIns.Load()), 1)
}

// TestNestedHandlersShareOneSession: a Manager's handler inside its own handler uses the outer
// session. Another Manager has a session of its own.
func TestNestedHandlersShareOneSession(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.visitor()
	h := session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		n.Add(ses, 1)
		inner := s.m.Handler(session.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				n.Add(ses, 1)
				_, err := io.WriteString(w, "page")
				return err
			}))
		inner.ServeHTTP(w, r)
		return nil
	})
	if w := v.handle(h); w.Code != 200 || len(cookies(w)) != 1 || s.store.Len() != 1 || v.count() != 2 {
		t.Errorf("%d, Set-Cookie %q, %d sessions, n = %d", w.Code, cookies(w), s.store.Len(), v.count())
	}
	s.store.fail("apply", errDown)
	mustAnswer(t, v.handle(h), 503)

	other := newSite(t, session.Config{Cookie: session.Cookie{Name: "__Host-other"}})
	other.store.fail("create", errDown)
	s.store.up()
	w := v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		n.Add(ses, 1)
		other.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			_, err := io.WriteString(w, "page")
			return err
		})).ServeHTTP(w, r)
		return nil
	})
	mustAnswer(t, w, 503)
}

// TestHandlerThatOutlivesItsTimeoutStores: http.TimeoutHandler outside answers 503 and does not
// stop the handler. A handler that returns its context's error stores nothing.
func TestHandlerThatOutlivesItsTimeoutStores(t *testing.T) {
	for _, asks := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{})
			v := s.known()
			w := v.request("GET", http.TimeoutHandler(s.m.Handler(session.HandlerFunc(
				func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
					time.Sleep(2 * time.Second)
					n.Add(ses, 10)
					if err := r.Context().Err(); asks && err != nil {
						return err
					}
					_, err := w.Write(text)
					return err
				})), time.Second, "timeout"))
			time.Sleep(2 * time.Second)
			want := int64(11)
			if asks {
				want = 1
			}
			if w.Code != 503 || len(cookies(w)) != 0 || v.count() != want {
				t.Errorf("the handler asks: %v: %d, Set-Cookie %q, n = %d, want %d", asks, w.Code, cookies(w), v.count(), want)
			}
		})
	}
}

// TestLimitsHoldForConcurrentRequests: a bounded counter and a bounded map end up exactly full.
func TestLimitsHoldForConcurrentRequests(t *testing.T) {
	v := newSite(t, session.Config{}).known()
	var refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			v.tab().do(func(s *session.Session) error {
				ctx := context.Background()
				_, one := n.AddWithin(ctx, s, 1, 0, 11)
				_, two := cart.AddWithin(ctx, s, fmt.Sprint(i%15), 1, 0, 1, 10)
				for _, err := range []error{one, two, gifts.SetWithin(ctx, s, fmt.Sprint(i), gift{"Ada", i}, 10)} {
					if errors.Is(err, session.ErrLimit) {
						refused.Add(1)
					} else if err != nil {
						t.Error(err)
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
	mustEqual(t, "refusals", refused.Load(), 90-30)
	v.mustDo(func(_ context.Context, s *session.Session) {
		all := maps.Collect(cart.All(s))
		mustEqual(t, "counts", fmt.Sprint(n.Get(s), len(all), len(maps.Collect(gifts.All(s)))), "11 10 10")
		for key, quantity := range all {
			mustEqual(t, key, quantity, 1)
		}
	})
}

// TestRefusedLimitLeavesTheRestOfTheRequest: nothing of a refused call is seen or stored. The
// changes before it are stored later, and the view has what others have stored.
func TestRefusedLimitLeavesTheRestOfTheRequest(t *testing.T) {
	for name, start := range map[string]func(*site) *visitor{"new": (*site).visitor, "stored": (*site).known} {
		t.Run(name, func(t *testing.T) {
			v := start(newSite(t, session.Config{}))
			had := max(v.count(), 0)
			v.mustDo(func(ctx context.Context, s *session.Session) {
				if had > 0 {
					v.tab().do(func(s *session.Session) error { cart.Add(s, "other", 1); n.Add(s, 1); return nil })
				}
				theme.Set(s, "dark")
				n.Add(s, 1)
				gifts.Set(s, "a", gift{"Ada", 1})
				now := 2*had + 1
				for _, delta := range []int64{3, -9, math.MaxInt64, math.MinInt64} {
					got, err := n.AddWithin(ctx, s, delta, 0, 2)
					if !errors.Is(err, session.ErrLimit) || session.Status(err) != 409 {
						t.Errorf("AddWithin: %v, want ErrLimit", err)
					}
					mustEqual(t, "AddWithin", got, now)
				}
				if had > 0 {
					mustEqual(t, "the view after a refusal", cart.Get(s, "other"), 1)
				}
				_, err := cart.AddWithin(ctx, s, "b", 1, 0, 9, 0)
				mustEqual(t, "AddWithin of a new key", fmt.Sprint(err),
					`session: over the limit of the call; nothing was changed: field "cart": at most 0 entries are allowed: delete one first`)
				if err := gifts.SetWithin(ctx, s, "b", gift{"Bo", 2}, 1); !errors.Is(err, session.ErrLimit) {
					t.Errorf("SetWithin: %v, want ErrLimit", err)
				}
				_, ok := gifts.Get(s, "b")
				mustEqual(t, "refused values", fmt.Sprint(n.Get(s), cart.Get(s, "b"), ok), fmt.Sprint(now, 0, false))
			})
			v.mustDo(func(ctx context.Context, s *session.Session) {
				_, ok := gifts.Get(s, "b")
				mustEqual(t, "stored", fmt.Sprint(theme.Get(s), n.Get(s), len(maps.Collect(gifts.All(s))), cart.Get(s, "b"), ok),
					fmt.Sprint("dark", 2*had+1, 1, 0, false))
				if err := gifts.SetWithin(ctx, s, "a", gift{"Ada", 7}, 0); err != nil {
					t.Errorf("SetWithin of an entry that is there: %v", err)
				}
				got, err := n.AddWithin(ctx, s, -1, 0, 100)
				mustEqual(t, "AddWithin", fmt.Sprint(got, err), fmt.Sprint(2*had, nil))
			})
		})
	}
}

// TestLimitCallsFailAsCommits: other errors than ErrLimit fail the request, as those of Commit do.
func TestLimitCallsFailAsCommits(t *testing.T) {
	for name, f := range map[string]func(ctx context.Context, s *session.Session) error{
		"not a counter": func(ctx context.Context, s *session.Session) error {
			theme.Set(s, "dark")
			_, err := session.Counter(theme).AddWithin(ctx, s, 1, 0, 9)
			return err
		},
		"too large": func(ctx context.Context, s *session.Session) error {
			return gifts.SetWithin(ctx, s, "a", gift{For: strings.Repeat("x", 70000)}, 9)
		},
		"bad name": func(ctx context.Context, s *session.Session) error {
			return session.Map[int]("no name").SetWithin(ctx, s, "a", 1, 9)
		},
		"no JSON": func(ctx context.Context, s *session.Session) error {
			return session.Map[float64]("m").SetWithin(ctx, s, "a", math.NaN(), 9)
		},
		"impossible limit": func(ctx context.Context, s *session.Session) error {
			return session.Map[int]("m").SetWithin(ctx, s, "a", 1, -1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newSite(t, session.Config{}).known()
			w := v.serve(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
				err := f(r.Context(), s)
				if err == nil || errors.Is(err, session.ErrLimit) {
					t.Errorf("the call returns %v", err)
				}
				n.Add(s, 1)
				return nil
			})
			mustAnswer(t, w, 500)
			mustEqual(t, "n", v.count(), 1)
		})
	}
}
