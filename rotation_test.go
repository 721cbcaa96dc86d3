package session_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// rotateEvery is Config.RotateEvery of the tests.
const rotateEvery = 15 * time.Minute

// newSiteWithOldToken returns a site whose tokens rotate, and a visitor whose token is old enough
// to rotate.
func newSiteWithOldToken(t *testing.T, cfg session.Config) (*site, *eventLog, *visitor) {
	t.Helper()
	cfg.RotateEvery = rotateEvery
	s, l := newSiteWithEvents(t, cfg)
	v := s.known()
	time.Sleep(rotateEvery)
	l.drain()
	return s, l, v
}

// mustRotate makes a request that must rotate the token. It returns a tab with the old token.
func (v *visitor) mustRotate(t *testing.T, f func(*session.Session) error) *visitor {
	t.Helper()
	before := v.tab()
	if w := v.do(f); w.Code != 200 || len(cookies(w)) != 1 || v.cookie == before.cookie {
		t.Fatalf("%d, Set-Cookie %q, want another token", w.Code, cookies(w))
	}
	return before
}

// mustHaveSession makes a request that must find the session and set no cookie.
func (v *visitor) mustHaveSession(t *testing.T, what string) {
	t.Helper()
	found := int64(0)
	w := v.do(func(ses *session.Session) error { found = n.Get(ses); return nil })
	if w.Code != 200 || len(cookies(w)) != 0 || found == 0 {
		t.Errorf("%s: %d, Set-Cookie %q, n = %d, want the session and the same token", what, w.Code, cookies(w), found)
	}
}

// mustHaveNoSession makes a request that must find no session and set no cookie.
func (v *visitor) mustHaveNoSession(t *testing.T, what string) {
	t.Helper()
	found := int64(0)
	w := v.tab().do(func(ses *session.Session) error { found = n.Get(ses); return nil })
	if w.Code != 200 || len(cookies(w)) != 0 || found != 0 {
		t.Errorf("%s: %d, Set-Cookie %q, n = %d, want no session", what, w.Code, cookies(w), found)
	}
}

// handleFromCookie computes the session's handle from the token in the cookie, without a request.
func (v *visitor) handleFromCookie() string {
	_, text, _ := strings.Cut(v.cookie, "=")
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return driver.ID{Bucket: binary.BigEndian.Uint16(b[1:]), Selector: driver.HashOf(b[3:19])}.String()
}

// TestRenewKeepsTheSession: fields and handle stay. The response has one new cookie.
func TestRenewKeepsTheSession(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	handle := func() (h string) {
		v.tab().do(func(ses *session.Session) error { h = ses.Info().Handle; return nil })
		return h
	}
	before := handle()
	w := v.do(func(ses *session.Session) error { n.Add(ses, 1); renew(ses); return renew(ses) })
	if len(cookies(w)) != 1 || v.count() != 2 || handle() != before || before == "" {
		t.Errorf("Set-Cookie %q, n = %d, handle %q, before %q", cookies(w), v.count(), handle(), before)
	}
	fresh := s.visitor()
	if w := fresh.do(renew); w.Code != 200 || len(cookies(w)) != 0 {
		t.Errorf("without a session: %d, Set-Cookie %q", w.Code, cookies(w))
	}
}

// TestSupersededTokenReadsNothingAndCannotWrite: a request arrives with the token from before a
// renewal.
func TestSupersededTokenReadsNothingAndCannotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		old := v.tab()
		if v.do(renew); v.cookie == old.cookie {
			t.Fatal("the token is the same")
		}
		w := old.tab().do(func(ses *session.Session) error {
			if n.Get(ses) != 0 || ses.Info().Handle != "" {
				t.Error("the old token still finds the session")
			}
			return nil
		})
		if w.Code != 200 || len(cookies(w)) != 0 {
			t.Errorf("reading: %d, Set-Cookie %q", w.Code, cookies(w))
		}
		w = old.tab().do(increment)
		if mustAnswer(t, w, 409); len(cookies(w)) != 0 {
			t.Errorf("writing: Set-Cookie %q", cookies(w))
		}
	})
}

// TestOldTokenIsRotatedOnce: the next request that uses the session rotates the token. The old
// token stays valid until the first use of the new one, and for the grace period after that.
func TestOldTokenIsRotatedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newSiteWithEvents(t, session.Config{RotateEvery: rotateEvery})
		v := s.known()
		handle := v.info().Handle
		l.drain()
		time.Sleep(rotateEvery - time.Millisecond)
		v.mustHaveSession(t, "before RotateEvery")
		time.Sleep(time.Millisecond)
		unused := v.handle(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		mustEqual(t, "cookies of a request that does not use the session", len(cookies(unused)), 0)

		old := v.mustRotate(t, readCount)
		l.mustReport(t, "rotation", "rotated "+handle)
		for range 3 {
			old.mustHaveSession(t, "the old token before the first use of the new one")
			time.Sleep(time.Minute)
		}
		v.mustHaveSession(t, "the new token")
		mustEqual(t, "handle", v.info().Handle, handle)
		time.Sleep(driver.RotationGrace - time.Millisecond)
		old.mustHaveSession(t, "the old token in grace")
		l.mustReport(t, "the old token in grace")
		time.Sleep(rotateEvery)
		v.mustRotate(t, readCount)
		l.mustReport(t, "the next rotation", "rotated "+handle)
	})
}

// TestRotationIsOneWrite: the rotation is part of the request's commit, or a write of its own if
// the request changes nothing. It counts as a touch.
func TestRotationIsOneWrite(t *testing.T) {
	for name, f := range map[string]func(*session.Session) error{"reader": readCount, "writer": increment} {
		bubble(t, func(t *testing.T) {
			s, _, v := newSiteWithOldToken(t, session.Config{})
			before := s.store.loads.Load()
			s.store.applies.Store(0)
			v.mustRotate(t, f)
			time.Sleep(time.Second)
			mustEqual(t, name+": loads", s.store.loads.Load()-before, 1)
			mustEqual(t, name+": writes", s.store.applies.Load()+s.store.touches.Load(), 1)
		})
	}
}

// TestConcurrentRequestsRotateOnce: of a browser's concurrent requests on two nodes one gets the
// new token. All succeed.
func TestConcurrentRequestsRotateOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := newSiteWithOldToken(t, session.Config{})
		other := &site{t: t, store: s.store, log: s.log}
		other.m, _ = session.New(s.store, session.Config{RotateEvery: rotateEvery, OnEvent: l.record})
		var mu sync.Mutex
		var got []string
		var wg sync.WaitGroup
		for i := range 20 {
			tab := v.tab()
			if tab.site = s; i%2 == 1 {
				tab.site = other
			}
			wg.Go(func() {
				w := tab.do(func(ses *session.Session) error { time.Sleep(time.Second); return increment(ses) })
				mu.Lock()
				defer mu.Unlock()
				if mustEqual(t, "status", w.Code, 200); len(cookies(w)) > 0 {
					got = append(got, tab.cookie)
				}
			})
		}
		wg.Wait()
		if mustEqual(t, "new cookies", len(got), 1); len(l.drain()) != 1 {
			t.Error("want one event")
		}
		v.cookie = got[0]
		mustEqual(t, "n", v.count(), 21)
	})
}

// TestLostRotationIsRepeatedWithoutTheft: if the response is lost, the browser goes on with the old
// token. It gets another one when the lost token is old. A late use of the lost token is not theft.
func TestLostRotationIsRepeatedWithoutTheft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := newSiteWithOldToken(t, session.Config{})
		late := v.tab()
		late.mustRotate(t, increment)
		for range 14 {
			time.Sleep(time.Minute)
			v.mustHaveSession(t, "the visitor's own token")
		}
		time.Sleep(time.Minute)
		old := v.mustRotate(t, readCount)
		l.drain()
		late.mustHaveNoSession(t, "the lost token")
		old.mustHaveSession(t, "the old token")
		v.mustHaveSession(t, "the new token")
		l.mustReport(t, "the lost token", "refused "+v.info().Handle+" unknown")
		mustEqual(t, "sessions", s.store.Len(), 1)
	})
}

// TestFailedRotationFailsNoRequest: a request without changes succeeds whatever the outcome of its
// rotation. An unknown outcome of a commit with changes is the request's error, and is not
// repeated.
func TestFailedRotationFailsNoRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := newSiteWithOldToken(t, session.Config{})
		s.store.fail("apply", errDown)
		v.mustHaveSession(t, "the store is down")
		if !strings.Contains(s.log.String(), "level=WARN") {
			t.Error("the log has no warning")
		}
		s.store.fail("apply", driver.ErrNotFound)
		v.mustHaveSession(t, "the session ended meanwhile")
		s.store.up()
		s.store.after = func(string) error { return driver.ErrUnknown }
		v.mustHaveSession(t, "the result is lost")
		s.store.after = nil
		l.mustReport(t, "rotations that failed")
		for range 2 {
			// The store waits for the first use of another token.
			v.mustHaveSession(t, "after the lost result")
			time.Sleep(time.Minute)
		}
		v.do(increment)
		time.Sleep(rotateEvery)
		v.mustRotate(t, readCount)
		mustEqual(t, "n", v.count(), 2)
	})
	bubble(t, func(t *testing.T) { // an unknown outcome with changes
		s, _, v := newSiteWithOldToken(t, session.Config{})
		s.store.after = func(string) error { return driver.ErrUnknown }
		if w := v.do(increment); w.Code != 503 || len(cookies(w)) != 0 {
			t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
		}
		s.store.after = nil
		mustEqual(t, "n", v.count(), 2)
	})
	// Another request has rotated, and this one commits its other changes.
	bubble(t, func(t *testing.T) {
		s, _, v := newSiteWithOldToken(t, session.Config{})
		other := v.tab()
		w := v.do(func(ses *session.Session) error {
			other.mustRotate(t, readCount)
			s.store.after = func(string) error { s.store.after = nil; return driver.ErrUnknown }
			return increment(ses)
		})
		if w.Code != 503 || len(cookies(w)) != 0 {
			t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
		}
		mustEqual(t, "n", v.count(), 2)
	})
}

// TestRenewalCountsTheGeneration: the new token has the generation of the record, also if the
// renewed token was in its grace period.
func TestRenewalCountsTheGeneration(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, l, v := newSiteWithOldToken(t, session.Config{})
		old := v.mustRotate(t, readCount)
		v.mustHaveSession(t, "the new token")
		time.Sleep(time.Millisecond) // the first use is written after the response
		old.do(renew)
		if _, text, _ := strings.Cut(old.cookie, "="); text == "" || text == v.cookie {
			t.Fatal("Renew set no new token")
		}
		time.Sleep(driver.SupersededFor)
		l.drain()
		old.withToken(2, false).mustHaveSession(t, "the token of generation 2")
		mustEqual(t, "the token", old.withToken(2, false).cookie, old.cookie)
	})
}

// TestRotationNeedsAResponseToCarryIt: no rotation where a new token would not arrive, or is not
// needed.
func TestRotationNeedsAResponseToCarryIt(t *testing.T) {
	for name, f := range map[string]func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder{
		"a canceled request": func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			ctx, cancel := context.WithCancel(t.Context())
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			r.Header.Set("Cookie", v.cookie)
			s.m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error {
				cancel()
				return readCount(ses)
			})).ServeHTTP(w, r)
			return w
		},
		"a hijacked connection": func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			w := &hijackable{ResponseRecorder: httptest.NewRecorder()}
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", v.cookie)
			s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
				if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
					t.Error(err)
				}
				increment(ses)
				return ses.Commit(t.Context())
			})).ServeHTTP(w, r)
			return w.ResponseRecorder
		},
		"a copy while the store is down": func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			store := newCachingStore(s.store)
			v.site = store.newSite(t, session.Config{})
			v.mustHaveSession(t, "while the store is up")
			v.site = store.newSite(t, session.Config{RotateEvery: rotateEvery})
			s.store.fail("load", errDown)
			return v.serveRoute(session.Route{Down: session.DownReadOnly},
				func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error {
					if !ses.Degraded() || n.Get(ses) != 1 {
						t.Error("the session is not degraded, or not served")
					}
					return nil
				})
		},
		"a request that renews": func(_ *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			w := v.do(renew)
			w.Header().Del("Set-Cookie")
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l, v := newSiteWithOldToken(t, session.Config{})
				if w := f(t, s, v); w.Code != 200 || w.Header().Get("Set-Cookie") != "" {
					t.Errorf("%d, Set-Cookie %q", w.Code, w.Header())
				}
				for _, e := range l.drain() {
					if strings.HasPrefix(e, "rotated") {
						t.Errorf("event %q", e)
					}
				}
			})
		})
	}
}

// hijackable is a response whose connection can be hijacked.
type hijackable struct{ *httptest.ResponseRecorder }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a, b := net.Pipe()
	b.Close()
	return a, bufio.NewReadWriter(bufio.NewReader(a), bufio.NewWriter(a)), nil
}

// TestSignInAndRenewalResetTheTokenAge: the new token rotates RotateEvery later.
func TestSignInAndRenewalResetTheTokenAge(t *testing.T) {
	for name, f := range map[string]func(*session.Session) error{"sign-in": signIn("ada"), "renewal": renew} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{RotateEvery: rotateEvery, KeepFields: []string{"n"}})
			v := s.known()
			time.Sleep(rotateEvery - time.Minute)
			v.do(f)
			time.Sleep(rotateEvery - time.Millisecond)
			v.mustHaveSession(t, name)
			time.Sleep(time.Millisecond)
			v.mustRotate(t, readCount)
		})
	}
}

// TestRotatedCookieHasTheSameAttributes: and no cache stores the response.
func TestRotatedCookieHasTheSameAttributes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{RotateEvery: rotateEvery, Cookie: session.Cookie{Persistent: true},
			Lifetime: time.Hour})
		v := s.known()
		time.Sleep(rotateEvery)
		w := v.serve(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
			w.Header().Set("Cache-Control", "public, max-age=60")
			return readCount(ses)
		})
		c := w.Result().Cookies()
		if len(c) != 1 || c[0].MaxAge != int((time.Hour-rotateEvery)/time.Second) || !c[0].HttpOnly || !c[0].Secure {
			t.Errorf("Set-Cookie %q", cookies(w))
		}
		mustEqual(t, "Cache-Control", fmt.Sprint(w.Header()["Cache-Control"]), "[no-store]")
	})
}

// TestRotationLeavesThePreviousTokenItsGrace: a token that is old at its first use does not rotate
// during the grace period of the previous one.
func TestRotationLeavesThePreviousTokenItsGrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, l, v := newSiteWithOldToken(t, session.Config{})
		before := v.mustRotate(t, readCount)
		time.Sleep(rotateEvery)
		v.mustHaveSession(t, "the first use of the old token")
		time.Sleep(time.Second)
		before.mustHaveSession(t, "within the grace")
		time.Sleep(30 * time.Second)
		v.mustRotate(t, readCount)
		for _, e := range l.drain() {
			if strings.Contains(e, "stolen") {
				t.Error(e)
			}
		}
	})
}
