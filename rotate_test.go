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
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

const every = 15 * time.Minute

// rotating is a site whose tokens rotate, with a visitor whose token is old.
func rotating(t *testing.T, cfg session.Config) (*site, *told, *visitor) {
	t.Helper()
	cfg.RotateEvery = every
	s, l := listening(t, cfg)
	v := s.known()
	time.Sleep(every)
	l.take()
	return s, l, v
}

func look(ses *session.Session) error { n.Get(ses); return nil }
func add(ses *session.Session) error  { n.Add(ses, 1); return nil }

// rotates makes a request that must rotate the token.
func (v *visitor) rotates(t *testing.T, f func(*session.Session) error) *visitor {
	t.Helper()
	before := v.also()
	if w := v.do(f); w.Code != 200 || len(cookies(w)) != 1 || v.cookie == before.cookie {
		t.Fatalf("%d, Set-Cookie %q, want another token", w.Code, cookies(w))
	}
	return before
}

// keeps makes a request that must find the session, and leave the token as it is.
func (v *visitor) keeps(t *testing.T, what string) {
	t.Helper()
	found := int64(0)
	w := v.do(func(ses *session.Session) error { found = n.Get(ses); return nil })
	if w.Code != 200 || len(cookies(w)) != 0 || found == 0 {
		t.Errorf("%s: %d, Set-Cookie %q, n = %d, want the session and the same token", what, w.Code, cookies(w), found)
	}
}

// lost makes a request that must find no session, and change nothing.
func (v *visitor) lost(t *testing.T, what string) {
	t.Helper()
	found := int64(0)
	w := v.also().do(func(ses *session.Session) error { found = n.Get(ses); return nil })
	if w.Code != 200 || len(cookies(w)) != 0 || found != 0 {
		t.Errorf("%s: %d, Set-Cookie %q, n = %d, want no session", what, w.Code, cookies(w), found)
	}
}

// named is the handle that the cookie's token names, without a request.
func (v *visitor) named() string {
	_, text, _ := strings.Cut(v.cookie, "=")
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return driver.ID{Bucket: binary.BigEndian.Uint16(b[1:]), Selector: driver.HashOf(b[3:19])}.String()
}

// TestRotation: a token that is old is changed with the next request that uses it, once, and the one before lives on until the new one is
// used, and for a grace after that.
func TestRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := listening(t, session.Config{RotateEvery: every})
		v := s.known()
		handle := v.info().Handle
		l.take()
		time.Sleep(every - time.Millisecond)
		v.keeps(t, "too early")
		time.Sleep(time.Millisecond)
		unused := v.handle(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		want(t, "cookies of a request that does not use the session", len(cookies(unused)), 0)

		old := v.rotates(t, look)
		l.want(t, "rotation", "rotated "+handle)
		for range 3 {
			old.keeps(t, "the old token, the new one not yet used")
			time.Sleep(time.Minute)
		}
		v.keeps(t, "the new token")
		want(t, "handle", v.info().Handle, handle)
		time.Sleep(driver.RotationGrace - time.Millisecond)
		old.keeps(t, "the old token in grace")
		l.want(t, "the old token in grace")
		time.Sleep(every)
		v.rotates(t, look)
		l.want(t, "the next rotation", "rotated "+handle)
	})
}

// TestRotationIsOneWrite: it goes with the changes of the request, and by itself if there are none; the session is touched by it.
func TestRotationIsOneWrite(t *testing.T) {
	for name, f := range map[string]func(*session.Session) error{"reader": look, "writer": add} {
		bubble(t, func(t *testing.T) {
			s, _, v := rotating(t, session.Config{})
			before := s.store.loads.Load()
			s.store.applies.Store(0)
			v.rotates(t, f)
			time.Sleep(time.Second)
			want(t, name+": loads", s.store.loads.Load()-before, 1)
			want(t, name+": writes", s.store.applies.Load()+s.store.touches.Load(), 1)
		})
	}
}

// TestRotationAtTheSameTime: of a browser's requests at the same time, on several nodes, one gets the new token, and all are served.
func TestRotationAtTheSameTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := rotating(t, session.Config{})
		other := &site{t: t, store: s.store, log: s.log}
		other.m, _ = session.New(s.store, session.Config{RotateEvery: every, OnEvent: l.hear})
		var mu sync.Mutex
		var got []string
		var wg sync.WaitGroup
		for i := range 20 {
			tab := v.also()
			if tab.site = s; i%2 == 1 {
				tab.site = other
			}
			wg.Go(func() {
				w := tab.do(func(ses *session.Session) error { time.Sleep(time.Second); return add(ses) })
				mu.Lock()
				defer mu.Unlock()
				if want(t, "status", w.Code, 200); len(cookies(w)) > 0 {
					got = append(got, tab.cookie)
				}
			})
		}
		wg.Wait()
		if want(t, "new cookies", len(got), 1); len(l.take()) != 1 {
			t.Error("told of another number of rotations than one")
		}
		v.cookie = got[0]
		want(t, "n", v.count(), 21)
	})
}

// TestRotationWhoseResponseWasLost: the browser goes on with the token it has, and gets another when the lost one would be old. The lost
// one, should it arrive after all, is no thief's.
func TestRotationWhoseResponseWasLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := rotating(t, session.Config{})
		late := v.also()
		late.rotates(t, add)
		for range 14 {
			time.Sleep(time.Minute)
			v.keeps(t, "the visitor's own token")
		}
		time.Sleep(time.Minute)
		old := v.rotates(t, look)
		l.take()
		late.lost(t, "the token that was lost")
		old.keeps(t, "the old token")
		v.keeps(t, "the new token")
		l.want(t, "the token that was lost", "refused "+v.info().Handle+" unknown")
		want(t, "sessions", s.store.Len(), 1)
	})
}

// TestRotationThatFails: it is none of the request.
func TestRotationThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := rotating(t, session.Config{})
		s.store.fail("apply", errDown)
		v.keeps(t, "the store is down")
		if !strings.Contains(s.log.String(), "level=WARN") {
			t.Error("nothing in the log")
		}
		s.store.fail("apply", driver.ErrNotFound)
		v.keeps(t, "the session ended meanwhile")
		s.store.up()
		s.store.after = func(string) error { return driver.ErrUnknown }
		v.keeps(t, "the answer is lost")
		s.store.after = nil
		l.want(t, "rotations that failed")
		for range 2 {
			v.keeps(t, "going on") // in the store another token waits, for ever
			time.Sleep(time.Minute)
		}
		v.do(add)
		time.Sleep(every)
		v.rotates(t, look)
		want(t, "n", v.count(), 2)
	})
	bubble(t, func(t *testing.T) { // with changes the unknown outcome is the request's, and not tried again
		s, _, v := rotating(t, session.Config{})
		s.store.after = func(string) error { return driver.ErrUnknown }
		if w := v.do(add); w.Code != 503 || len(cookies(w)) != 0 {
			t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
		}
		s.store.after = nil
		want(t, "n", v.count(), 2)
	})
	bubble(t, func(t *testing.T) { // nor when another request has rotated, and this one does the rest of its change
		s, _, v := rotating(t, session.Config{})
		other := v.also()
		w := v.do(func(ses *session.Session) error {
			other.rotates(t, look)
			s.store.after = func(string) error { s.store.after = nil; return driver.ErrUnknown }
			return add(ses)
		})
		if w.Code != 503 || len(cookies(w)) != 0 {
			t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
		}
		want(t, "n", v.count(), 2)
	})
}

// TestGenerationOfARenewal: the token says the generation that the record has, also if the one before was in grace.
func TestGenerationOfARenewal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, l, v := rotating(t, session.Config{})
		old := v.rotates(t, look)
		v.keeps(t, "the new token")
		old.do(renew)
		if _, text, _ := strings.Cut(old.cookie, "="); text == "" || text == v.cookie {
			t.Fatal("not renewed")
		}
		time.Sleep(driver.SupersededFor)
		l.take()
		old.withToken(2, false).keeps(t, "of the second generation")
		want(t, "the token", old.withToken(2, false).cookie, old.cookie)
	})
}

// TestWhatDoesNotRotate: where a new token would not arrive, or is not needed.
func TestWhatDoesNotRotate(t *testing.T) {
	for name, f := range map[string]func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder{
		"a request that was given up": func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			ctx, cancel := context.WithCancel(t.Context())
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			r.Header.Set("Cookie", v.cookie)
			s.m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error {
				cancel()
				return look(ses)
			})).ServeHTTP(w, r)
			return w
		},
		"a connection that was taken over": func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			w := &hijackable{ResponseRecorder: httptest.NewRecorder()}
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", v.cookie)
			s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
				if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
					t.Error(err)
				}
				add(ses)
				return ses.Commit(t.Context())
			})).ServeHTTP(w, r)
			return w.ResponseRecorder
		},
		"a copy while the store is down": func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			store := newCopying(s.store)
			v.site = store.site(t, session.Config{})
			v.keeps(t, "while the store is up")
			v.site = store.site(t, session.Config{RotateEvery: every})
			s.store.fail("load", errDown)
			return v.handle(session.Route{Down: session.DownReadOnly}.Handler(session.HandlerFunc(
				func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error {
					if !ses.Degraded() || n.Get(ses) != 1 {
						t.Error("not degraded, or not served")
					}
					return nil
				})))
		},
		"a session that is renewed": func(_ *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			w := v.do(renew)
			w.Header().Del("Set-Cookie")
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l, v := rotating(t, session.Config{})
				if w := f(t, s, v); w.Code != 200 || w.Header().Get("Set-Cookie") != "" {
					t.Errorf("%d, Set-Cookie %q", w.Code, w.Header())
				}
				for _, e := range l.take() {
					if strings.HasPrefix(e, "rotated") {
						t.Error("told that it was rotated")
					}
				}
			})
		})
	}
}

// hijackable is a response whose connection can be taken over.
type hijackable struct{ *httptest.ResponseRecorder }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a, b := net.Pipe()
	b.Close()
	return a, bufio.NewReadWriter(bufio.NewReader(a), bufio.NewWriter(a)), nil
}

// TestBearerTokensDoNotRotate: there is no way back for a new one, beside a cookie or not.
func TestBearerTokensDoNotRotate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := listening(t, session.Config{RotateEvery: every, Bearer: true})
		token := s.bearer(t)
		l.take()
		for _, cookie := range []string{"", "__Host-session=" + token} {
			time.Sleep(every)
			v := s.visitor()
			v.cookie, v.header["Authorization"] = cookie, "Bearer "+token
			if w := v.do(add); w.Code != 200 || len(cookies(w)) != 0 {
				t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
			}
		}
		l.want(t, "requests with a bearer token")
	})
}

// TestAgeOfAToken: it begins anew with a sign-in and with a renewal.
func TestAgeOfAToken(t *testing.T) {
	for name, f := range map[string]func(*session.Session) error{"sign-in": signIn("ada"), "renewal": renew} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{RotateEvery: every, KeepFields: []string{"n"}})
			v := s.known()
			time.Sleep(every - time.Minute)
			v.do(f)
			time.Sleep(every - time.Millisecond)
			v.keeps(t, name)
			time.Sleep(time.Millisecond)
			v.rotates(t, look)
		})
	}
}

// TestRotatedCookie: it is a cookie like the first one, and no cache keeps the response.
func TestRotatedCookie(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{RotateEvery: every, Cookie: session.Cookie{Persistent: true}, Lifetime: time.Hour})
		v := s.known()
		time.Sleep(every)
		w := v.handle(session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
			w.Header().Set("Cache-Control", "public, max-age=60")
			return look(ses)
		}))
		c := w.Result().Cookies()
		if len(c) != 1 || c[0].MaxAge != int((time.Hour-every)/time.Second) || !c[0].HttpOnly || !c[0].Secure {
			t.Errorf("Set-Cookie %q", cookies(w))
		}
		want(t, "Cache-Control", fmt.Sprint(w.Header()["Cache-Control"]), "[no-store]")
	})
}

// TestRotationLeavesTheGrace: a token that is old at its first use does not take the grace from the one before.
func TestRotationLeavesTheGrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, l, v := rotating(t, session.Config{})
		before := v.rotates(t, look)
		time.Sleep(every)
		v.keeps(t, "the first use, when it is old")
		time.Sleep(time.Second)
		before.keeps(t, "within the grace")
		time.Sleep(30 * time.Second)
		v.rotates(t, look)
		for _, e := range l.take() {
			if strings.Contains(e, "stolen") {
				t.Error(e)
			}
		}
	})
}
