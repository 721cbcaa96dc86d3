package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// TestTwoRequestsThatWriteDifferentFieldsBothTakeEffect: in other session libraries the last writer
// wins.
func TestTwoRequestsThatWriteDifferentFieldsBothTakeEffect(t *testing.T) {
	v := newSite(t, session.Config{}).known()
	v.do(func(s *session.Session) error {
		n.Get(s)
		v.tab().do(func(s *session.Session) error { theme.Set(s, "dark"); return nil })
		cart.Add(s, "tea", 1)
		return nil
	})
	v.mustDo(func(_ context.Context, s *session.Session) {
		mustEqual(t, "both", fmt.Sprint(theme.Get(s), cart.Get(s, "tea"), n.Get(s)), "dark1 1")
	})
}

// TestNoIncrementIsLost: other session libraries lose most of 400 concurrent increments.
func TestNoIncrementIsLost(t *testing.T) {
	v := newSite(t, session.Config{}).known()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 25 {
				v.tab().do(increment)
			}
		})
	}
	wg.Wait()
	mustEqual(t, "n", v.count(), 401)
}

// TestReadOnlyRequestDoesNotOverwriteAConcurrentWrite: other session libraries write back what a
// request has read.
func TestReadOnlyRequestDoesNotOverwriteAConcurrentWrite(t *testing.T) {
	s := newSite(t, session.Config{IdleTimeout: time.Minute})
	v := s.known()
	v.do(func(ses *session.Session) error {
		v.tab().do(increment)
		mustEqual(t, "the view", n.Get(ses), 1)
		return nil
	})
	mustEqual(t, "n", v.count(), 2)
}

// TestReadOnlyRequestDoesNotWrite: a request that only reads costs one round trip and no write.
func TestReadOnlyRequestDoesNotWrite(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	s.store.applies.Store(0)
	s.store.loads.Store(0)
	v.count()
	mustEqual(t, "writes", s.store.applies.Load()+s.store.touches.Load()+s.store.ends.Load(), 0)
	mustEqual(t, "round trips", s.store.loads.Load(), 1)
}

// TestSessionIsSafeForConcurrentUse is for the race detector: the goroutines of one request share
// its session.
func TestSessionIsSafeForConcurrentUse(t *testing.T) {
	v := newSite(t, session.Config{}).visitor()
	v.mustDo(func(ctx context.Context, s *session.Session) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 20 {
					n.Add(s, 1)
					n.Get(s)
					cart.Add(s, fmt.Sprint(i), 1)
					_ = maps.Collect(cart.All(s))
					theme.Set(s, "x")
					s.Info()
					s.User()
					s.Degraded()
					if _, err := basket.Update(ctx, s,
						func(b []string) ([]string, error) { return append(b, "tea"), nil }); err != nil {
						t.Error(err)
					}
					if err := s.Commit(ctx); err != nil {
						t.Error(err)
					}
					session.From(ctx)
				}
			})
		}
		wg.Wait()
	})
	v.mustDo(func(_ context.Context, s *session.Session) {
		counts := slices.Collect(maps.Values(maps.Collect(cart.All(s))))
		mustEqual(t, "all", fmt.Sprint(n.Get(s), len(basket.Get(s)), counts),
			fmt.Sprint(160, 160, slices.Repeat([]int64{20}, 8)))
	})
}

// TestReloadSeesOtherRequests: Reload reads the current session in a long request. It drops changes
// that were not committed.
func TestReloadSeesOtherRequests(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.tab().serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		io.WriteString(w, "stream")
		v.do(increment)
		n.Add(ses, 100)
		if n.Get(ses) != 101 {
			t.Errorf("own view: %d", n.Get(ses))
		}
		if err := ses.Reload(r.Context()); err != nil || n.Get(ses) != 2 {
			t.Errorf("Reload: %v, n = %d, want 2", err, n.Get(ses))
		}
		s.store.down()
		if err := ses.Reload(r.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Reload with the store down: %v", err)
		}
		s.store.up()
		if err := ses.Reload(r.Context()); err != nil || n.Get(ses) != 2 {
			t.Errorf("Reload: %v, n = %d, want 2", err, n.Get(ses))
		}
		v.do(signOut)
		if err := ses.Reload(r.Context()); !errors.Is(err, session.ErrEnded) || n.Get(ses) != 0 {
			t.Errorf("Reload of an ended session: %v, n = %d", err, n.Get(ses))
		}
		return nil
	})
	if v.count() != 0 {
		t.Errorf("n = %d", v.count())
	}
}

// TestSlowRequestDoesNotUndoSignOut: in other session libraries the request in flight stores the
// session again.
func TestSlowRequestDoesNotUndoSignOut(t *testing.T) {
	for name, f := range map[string]func(*session.Session) error{"reader": readCount, "writer": increment} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{})
			v := s.known()
			old := v.tab()
			time.Sleep(time.Hour) // so that the next use is written
			v.tab().do(func(ses *session.Session) error { v.do(signOut); return f(ses) })
			time.Sleep(time.Second)
			if old.count() != 0 || s.store.Len() != 0 {
				t.Errorf("%s: the ended session loads again", name)
			}
		})
	}
}

// TestRequestInFlightMayReadAfterSignOut: a request that only reads succeeds and sets no cookie.
func TestRequestInFlightMayReadAfterSignOut(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	w := v.tab().do(func(ses *session.Session) error { v.do(signOut); n.Get(ses); return nil })
	if w.Code != 200 || len(cookies(w)) != 0 || s.store.Len() != 0 {
		t.Errorf("%d, Set-Cookie %q, %d sessions", w.Code, cookies(w), s.store.Len())
	}
}

// TestRequestInFlightCannotWriteAfterATokenChange: the request keeps its view, its writes are
// refused, and it never sends a cookie over the newer one.
func TestRequestInFlightCannotWriteAfterATokenChange(t *testing.T) {
	meanwhile := map[string]func(*session.Session) error{"signed out": signOut, "renewed": renew}
	slow := map[string]func(ctx context.Context, ses *session.Session) error{
		"writes":         func(ctx context.Context, ses *session.Session) error { n.Add(ses, 1); return nil },
		"writes, header": func(ctx context.Context, ses *session.Session) error { n.Add(ses, 1); return nil },
		"commits": func(ctx context.Context, ses *session.Session) error {
			n.Add(ses, 1)
			return ses.Commit(ctx)
		},
		"renews": func(ctx context.Context, ses *session.Session) error { return ses.Renew(ctx) },
		"updates": func(ctx context.Context, ses *session.Session) error {
			_, err := theme.Update(ctx, ses, func(string) (string, error) { return "dark", nil })
			return err
		},
		"reloads, writes": func(ctx context.Context, ses *session.Session) error {
			if err := ses.Reload(ctx); !errors.Is(err, session.ErrEnded) {
				t.Errorf("Reload: %v, want ErrEnded", err)
			}
			if err := ses.Reload(ctx); !errors.Is(err, session.ErrEnded) {
				t.Errorf("Reload again: %v, want ErrEnded", err)
			}
			n.Add(ses, 1)
			return nil
		},
		"fresh route, writes": func(ctx context.Context, ses *session.Session) error {
			if err := (session.Route{Fresh: true}).Check(ctx); err != nil {
				t.Errorf("Check: %v", err)
			}
			n.Add(ses, 1)
			return nil
		},
		"renewed itself before, writes": nil,
	}
	for what, other := range meanwhile {
		for does, f := range slow {
			t.Run(what+"/"+does, func(t *testing.T) {
				s := newSite(t, session.Config{})
				v := s.known()
				late := v.tab()
				w := late.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
					if f == nil {
						if err := ses.Renew(r.Context()); err != nil {
							t.Error(err)
						}
						s.store.mustEndAll(t)
						n.Add(ses, 1)
						return nil
					}
					if w := v.do(other); w.Code != 200 {
						t.Errorf("the other request: %d", w.Code)
					}
					if n.Get(ses) != 1 {
						t.Error("the view changed under the handler")
					}
					return f(r.Context(), ses)
				})
				mustAnswer(t, w, 409)
				if len(cookies(w)) != 0 {
					t.Errorf("Set-Cookie %q", cookies(w))
				}
				if want := int64(1); what == "renewed" && f != nil && v.count() != want {
					t.Errorf("n = %d, want %d", v.count(), want)
				}
				if what == "signed out" && s.store.Len() != 0 {
					t.Errorf("%d sessions, want none", s.store.Len())
				}
			})
		}
	}
}

// TestRequestInFlightCannotWriteAfterSignIn: a request with the superseded token changes nothing,
// and never sends a cookie over the newer one.
func TestRequestInFlightCannotWriteAfterSignIn(t *testing.T) {
	for name, f := range map[string]func(ses *session.Session) error{
		"reads":           readCount,
		"writes":          increment,
		"commits":         func(ses *session.Session) error { n.Add(ses, 1); return ses.Commit(t.Context()) },
		"renews":          renew,
		"clears and sets": func(ses *session.Session) error { ses.Clear(); theme.Set(ses, "x"); return nil },
		"reloads":         func(ses *session.Session) error { return ses.Reload(t.Context()) },
	} {
		for _, begins := range []string{"before", "after"} {
			t.Run(name+", begun "+begins, func(t *testing.T) {
				s := newSite(t, session.Config{KeepFields: []string{"n"}})
				v := s.known()
				slow := v.tab()
				if begins == "after" {
					v.do(signIn("ada"))
				}
				w := slow.do(func(ses *session.Session) error {
					if begins == "before" {
						v.do(signIn("ada"))
					}
					return f(ses)
				})
				want := map[bool]int{true: 200, false: 409}[name == "reads"]
				if len(cookies(w)) != 0 || w.Code != want && (name != "renews" || begins != "after") {
					t.Errorf("%d, Set-Cookie %q; want %d", w.Code, cookies(w), want)
				}
				if v.who() != "ada" || v.count() != 1 || s.store.Len() != 1 {
					t.Errorf("user %q, n = %d, %d sessions", v.who(), v.count(), s.store.Len())
				}
			})
		}
	}
}

// TestLateFromSetsNoCookieAfterSignIn: a request calls From when the store has forgotten the
// superseded token. It must not start a session that replaces the browser's newer cookie.
func TestLateFromSetsNoCookieAfterSignIn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		late := v.tab()
		w := late.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v.do(signIn("ada"))
			time.Sleep(61 * time.Second) // an upload
			ses, err := session.From(r.Context())
			if err != nil {
				t.Error(err)
				return
			}
			n.Add(ses, 1)
		}))
		if w.Code != 409 || len(cookies(w)) != 0 {
			t.Errorf("%d, Set-Cookie %q; want 409 and none", w.Code, cookies(w))
		}
	})
}

// stream makes a request that sends its header before f runs. f gets the browser with the cookie of
// the header.
func (v *visitor) stream(t *testing.T, f func(ses *session.Session, browser *visitor)) *httptest.ResponseRecorder {
	t.Helper()
	return v.serve(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		browser := v.tab()
		for _, c := range (&http.Response{Header: w.Header()}).Cookies() {
			browser.cookie = c.Name + "=" + c.Value
		}
		f(ses, browser)
		return nil
	})
}

// TestStreamsDuringRotation: a stream does not rotate the token once its header is sent. A stream
// that rotated before goes on with the new token when the old one expires. A stream that another
// request's rotation has overtaken gets ErrEnded, and is not reported as theft.
func TestStreamsDuringRotation(t *testing.T) {
	commit := func(ses *session.Session) error { increment(ses); return ses.Commit(t.Context()) }
	reload := func(ses *session.Session) error { return ses.Reload(t.Context()) }
	t.Run("begun before the rotation", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s, l := newSiteWithEvents(t, session.Config{RotateEvery: rotateEvery})
			v := s.known()
			l.drain()
			w := v.stream(t, func(ses *session.Session, _ *visitor) {
				time.Sleep(rotateEvery)
				if err := errors.Join(commit(ses), reload(ses)); err != nil {
					t.Error(err)
				}
				increment(ses)
			})
			mustEqual(t, "cookies", len(cookies(w)), 0)
			l.mustReport(t, "a stream")
			mustEqual(t, "n", v.count(), 3)
		})
	})
	for name, use := range map[string]func(*session.Session) error{"commits": commit, "reloads": reload} {
		t.Run("rotated, "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				_, l, v := newSiteWithOldToken(t, session.Config{})
				handle := v.handleFromCookie()
				w := v.stream(t, func(ses *session.Session, browser *visitor) {
					if err := errors.Join(commit(ses), reload(ses)); err != nil {
						t.Errorf("before the first use of the new token: %v", err)
					}
					browser.mustHaveSession(t, "the new token")
					for range 2 {
						time.Sleep(time.Minute)
						if err := use(ses); err != nil {
							t.Errorf("after the grace of the old token: %v", err)
						}
					}
				})
				mustEqual(t, "cookies", len(cookies(w)), 1)
				l.mustReport(t, "a stream", "rotated "+handle)
			})
		})
		t.Run("overtaken, "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l := newSiteWithEvents(t, session.Config{RotateEvery: rotateEvery})
				v := s.known()
				l.drain()
				overtaken := v.tab()
				w := overtaken.stream(t, func(ses *session.Session, _ *visitor) {
					for range 2 {
						time.Sleep(rotateEvery)
						v.mustRotate(t, increment)
						v.mustHaveSession(t, "the new token")
						time.Sleep(time.Minute)
						if err := use(ses); !errors.Is(err, session.ErrEnded) {
							t.Errorf("%v, want ErrEnded", err)
						}
					}
				})
				mustEqual(t, "cookies", len(cookies(w)), 0)
				mustEqual(t, "rotations, which are the only events", len(l.drain()), 2)
				v.mustHaveSession(t, "the visitor")
			})
		})
	}
}

// TestCallsReturnTheirOwnResult: another goroutine makes a mistake while a call waits for the
// store. The call returns what became of itself. The mistake fails the final commit, unless the
// outcome of the call is unknown, which the client must learn.
func TestCallsReturnTheirOwnResult(t *testing.T) {
	for name, c := range map[string]struct {
		store string
		isNew bool
		f     func(ctx context.Context, ses *session.Session) error
	}{
		"Commit": {"apply", false, func(ctx context.Context, ses *session.Session) error {
			n.Add(ses, 1)
			return ses.Commit(ctx)
		}},
		"Update": {"apply", false, func(ctx context.Context, ses *session.Session) error {
			_, err := theme.Update(ctx, ses, func(string) (string, error) { return "dark", nil })
			return err
		}},
		"Take": {"apply", false, func(ctx context.Context, ses *session.Session) error {
			_, _, err := notice.Take(ctx, ses)
			return err
		}},
		"Renew":     {"apply", false, func(ctx context.Context, ses *session.Session) error { return ses.Renew(ctx) }},
		"Renew new": {"create", true, func(ctx context.Context, ses *session.Session) error { n.Add(ses, 1); return ses.Renew(ctx) }},
		"SignIn": {"signin", true, func(ctx context.Context, ses *session.Session) error {
			return ses.SignIn(ctx, session.Login{User: "ada"})
		}},
		"BearerToken": {"create", true, func(ctx context.Context, ses *session.Session) error {
			_, err := ses.BearerToken(ctx)
			return err
		}},
		"CSRFToken": {"create", true, func(ctx context.Context, ses *session.Session) error {
			_, err := ses.CSRFToken(ctx)
			return err
		}},
		"Reload": {"load", false, func(ctx context.Context, ses *session.Session) error { return ses.Reload(ctx) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, session.Config{Bearer: true})
			for _, storeErr := range []error{nil, driver.ErrUnknown} {
				v := s.visitor()
				if !c.isNew {
					v = s.known()
					v.do(func(ses *session.Session) error { notice.Set(ses, "x"); return nil })
				}
				w := v.serve(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
					s.store.set(func(call string) error {
						if call == c.store {
							session.Counter("").Add(ses, 1)
							return storeErr
						}
						return nil
					})
					defer s.store.up()
					if err := c.f(r.Context(), ses); storeErr == nil && err != nil {
						t.Errorf("the call that succeeded returned %v", err)
					} else if storeErr != nil && !errors.Is(err, session.ErrUnavailable) {
						t.Errorf("the call whose outcome is unknown returned %v", err)
					}
					return nil
				})
				if want := map[bool]int{true: 500, false: 503}[storeErr == nil]; w.Code != want {
					t.Errorf("store %v: status %d, want %d", storeErr, w.Code, want)
				}
			}
		})
	}
}

// TestUpdateThatGaveUpIsReported: a handler that got the error of an Update that never took place
// may answer it in its own words.
func TestUpdateThatGaveUpIsReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		w := v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			_, err := theme.Update(r.Context(), ses, func(old string) (string, error) {
				v.tab().do(func(o *session.Session) error { theme.Set(o, old+"x"); return nil })
				return old + "u", nil
			})
			if !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("Update: %v", err)
			}
			http.Error(w, "busy", http.StatusTooManyRequests)
			return nil
		})
		mustEqual(t, "status", w.Code, http.StatusTooManyRequests)
	})
}

// TestUpdateThatWaitedBeginsWithThePresentValue: f is called once, with what the others stored.
func TestUpdateThatWaitedBeginsWithThePresentValue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		v := newSite(t, session.Config{}).known()
		calls := 0
		concurrently(v, func(ctx context.Context, ses *session.Session) {
			if _, err := theme.Update(ctx, ses, func(old string) (string, error) {
				calls++ // Updates take turns
				time.Sleep(time.Millisecond)
				return old + "x", nil
			}); err != nil {
				t.Error(err)
			}
		})
		mustEqual(t, "calls", calls, 50)
	})
}
