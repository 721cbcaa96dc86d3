package session_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
)

// Several cookies: an older token of the same session comes first.
func TestOlderTokenOfTheSameSessionIsIgnored(t *testing.T) {
	for _, wait := range []time.Duration{time.Second, time.Hour / 2} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{})
			v := s.mustSignIn("ann")
			v.do(readCount)
			old := v.cookie
			time.Sleep(2 * time.Minute)
			v.do(renew)
			v.do(readCount) // the new one is used
			time.Sleep(wait)
			both := v.tab()
			both.cookie = old + "; " + v.cookie
			if got := both.who(); got != "ann" {
				t.Errorf("after %v: both cookies: user %q", wait, got)
			}
			if got := v.who(); got != "ann" {
				t.Errorf("after %v: afterwards the live cookie alone: user %q\n%s", wait, got, s.log)
			}
		})
	}
}

// a dead signed-in cookie, two live anonymous ones.
func TestTwinsBehindADeadCookieAreRefused(t *testing.T) {
	s := newSite(t, session.Config{})
	dead := s.mustSignIn("ann")
	c := dead.cookie
	dead.do(signOut)
	a, b := s.known(), s.known()
	v := s.visitor()
	v.cookie = a.cookie + "; " + b.cookie
	t.Log("without dead:", v.tab().do(readCount).Code)
	v.cookie = c + "; " + a.cookie + "; " + b.cookie
	if w := v.do(readCount); w.Code == 200 {
		t.Errorf("with dead: %d %q", w.Code, cookies(w))
	}
}

// more than four tokens: locked out?
func TestTooManyTokensDeleteTheCookies(t *testing.T) {
	s := newSite(t, session.Config{})
	u := s.mustSignIn("ann")
	v := s.visitor()
	v.cookie = u.cookie
	for range 4 {
		v.cookie += "; " + s.known().cookie
	}
	w := v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error { return nil })
	t.Log(w.Code, len(cookies(w)))
	if w.Code != 200 && len(cookies(w)) == 0 {
		t.Error("refused for ever: nothing deletes the cookies")
	}
}

// sign-in, then the session ends, Reload: cookie of the dead session?
func TestReloadOfAnEndedSessionSetsNoCookie(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.visitor()
	w := v.do(func(ses *session.Session) error {
		ctx := context.Background()
		if err := ses.SignIn(ctx, session.Login{User: "ann"}); err != nil {
			return err
		}
		if _, err := s.m.RevokeUser(ctx, "ann"); err != nil {
			t.Error(err)
		}
		t.Log("Reload:", ses.Reload(ctx))
		return nil
	})
	if c := newTokens(w); len(c) != 0 {
		t.Errorf("%d %q", w.Code, c)
	}
}

// After a failed Reload and Error, the session in state failed takes writes, sealed for no session.
func TestFailedSessionTakesNoWrites(t *testing.T) {
	cfg := session.Config{Keys: [][]byte{key(1)}, Seal: true, UserKey: key(2), Bearer: true}
	s := newSite(t, cfg)
	v := s.mustSignIn("ann")
	v.do(func(ses *session.Session) error { theme.Set(ses, "dark"); return nil })
	w := v.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ses, err := session.From(r.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.store.fail("load", errDown)
		err = ses.Reload(r.Context())
		s.store.up()
		if err == nil {
			t.Fatal("reload")
		}
		session.Error(w, r, err)
		tok, err := ses.BearerToken(r.Context())
		if err == nil {
			t.Errorf("BearerToken hands out the cookie's token: %v", strings.Contains(v.cookie, tok))
		}
		theme.Set(ses, "light")
	}))
	t.Log(w.Code)
	got := ""
	w = v.do(func(ses *session.Session) error { got = theme.Get(ses); return nil })
	if w.Code != 200 {
		t.Errorf("%d %q\n%s", w.Code, got, s.log)
	}
}

// Reload of an anonymous session with a dead cookie, while another goroutine sets.
func TestSetDuringReloadIsSealedForTheSession(t *testing.T) {
	cfg := session.Config{Keys: [][]byte{key(1)}, Seal: true, UserKey: key(2)}
	s := newSite(t, cfg)
	v := s.known()
	dead := v.cookie
	v.do(signOut)
	v.cookie = dead
	w := v.do(func(ses *session.Session) error {
		on(s, "load", func() { theme.Set(ses, "dark") })
		err := ses.Reload(context.Background())
		s.store.up()
		return err
	})
	t.Log(w.Code, len(newTokens(w)))
	got := ""
	w = v.do(func(ses *session.Session) error { got = theme.Get(ses); return nil })
	if w.Code != 200 || got != "dark" {
		t.Errorf("%d %q\n%s", w.Code, got, s.log)
	}
}

// TestPanicInTheStoreIsNoSuccess: a call of the store panics, and the handler recovers and goes on.
// Neither the handler nor the client may take that for a success, nor the session for an empty one,
// and no lock stays held.
func TestPanicInTheStoreIsNoSuccess(t *testing.T) {
	const unknown, unavailable = "It is not known", "The service is not available"
	update := func(ctx context.Context, ses *session.Session) error {
		_, err := theme.Update(ctx, ses, func(string) (string, error) { return "dark", nil })
		return err
	}
	for name, c := range map[string]struct {
		store  string
		f      func(ctx context.Context, ses *session.Session) error
		answer string // what the final answer begins with; "": the handler's own
	}{
		"Commit": {"apply", func(ctx context.Context, ses *session.Session) error {
			theme.Set(ses, "dark")
			return ses.Commit(ctx)
		}, unknown},
		"Update": {"apply", update, unknown},
		"Renew":  {"apply", func(ctx context.Context, ses *session.Session) error { return ses.Renew(ctx) }, unknown},
		"SignIn": {"signin", func(ctx context.Context, ses *session.Session) error {
			theme.Set(ses, "dark")
			return ses.SignIn(ctx, session.Login{User: "ada"})
		}, unknown},
		"SignOut":              {"end", func(ctx context.Context, ses *session.Session) error { return ses.SignOut(ctx) }, unavailable},
		"Reload":               {"load", func(ctx context.Context, ses *session.Session) error { return ses.Reload(ctx) }, unavailable},
		"Reload, its touch":    {"touch", func(ctx context.Context, ses *session.Session) error { return ses.Reload(ctx) }, ""},
		"the middleware's":     {"apply", func(_ context.Context, ses *session.Session) error { theme.Set(ses, "dark"); return nil }, unknown},
		"a fresh route":        {"load", func(ctx context.Context, _ *session.Session) error { return session.Route{Fresh: true}.Check(ctx) }, unavailable},
		"the touch at the end": {"touch", func(context.Context, *session.Session) error { return nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newSite(t, session.Config{})
				v := s.known()
				time.Sleep(time.Hour) // a touch is due
				cookie := v.cookie
				recovering := func(f func()) {
					defer func() { _ = recover() }()
					f()
				}
				w := v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
					on(s, c.store, func() { panic("bug") })
					recovering(func() {
						if err := c.f(r.Context(), ses); err != nil {
							t.Errorf("it returned %v", err)
						}
						_, _ = io.WriteString(w, "")
					})
					if _, err := session.From(r.Context()); err == nil && n.Get(ses) != 1 && name != "SignOut" {
						t.Error("the session is an empty one")
					}
					recovering(func() { _, _ = io.WriteString(w, "done") })
					return nil
				})
				synctest.Wait()
				s.store.up()
				want := c.answer
				if want == "" {
					want = "done"
				}
				if !strings.HasPrefix(w.Body.String(), want) {
					t.Errorf("%d %q, want %q", w.Code, w.Body, want)
				}
				if name == "SignOut" {
					mustEqual(t, "the cookie", v.cookie, "")
				}
				v.cookie = cookie
				mustEqual(t, "n afterwards", v.count(), 1)
			})
		})
	}
}

// TestPanicOfReadingIsNoEmptySession: a panic while the second cookie is read must not leave the
// request with the result of the first.
func TestPanicOfReadingIsNoEmptySession(t *testing.T) {
	s := newSite(t, session.Config{})
	dead := s.mustSignIn("ann")
	c := dead.cookie
	dead.do(signOut)
	v := s.known()
	v.cookie = c + "; " + v.cookie
	loads := 0
	on(s, "load", func() {
		if loads++; loads == 2 {
			panic("bug")
		}
	})
	w := v.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		func() {
			defer func() { _ = recover() }()
			_, _ = session.From(r.Context())
		}()
		if ses, err := session.From(r.Context()); err == nil {
			theme.Set(ses, "dark")
		}
	}))
	mustAnswer(t, w, 503)
	mustEqual(t, "sessions", s.store.Len(), 1)
}

// TestPanicAfterASignInKeepsItsCookie: the handler panics, or the store does in the final commit. A
// recovery outside answers, with the cookie of the sign-in that was committed.
func TestPanicAfterASignInKeepsItsCookie(t *testing.T) {
	for _, writes := range []bool{true, false} {
		for name, f := range map[string]func(s *site, ses *session.Session){
			"the handler": func(*site, *session.Session) { panic("bug") },
			"the store": func(s *site, ses *session.Session) {
				theme.Set(ses, "dark")
				on(s, "apply", func() { panic("bug") })
			},
		} {
			s := newSite(t, session.Config{})
			v := s.visitor()
			inner := s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				if err := signIn("ada")(ses); err != nil {
					t.Error(err)
				}
				f(s, ses)
				if writes {
					_, _ = io.WriteString(w, "page")
				}
				return nil
			}))
			v.request("GET", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					if recover() != nil {
						w.WriteHeader(500)
					}
				}()
				inner.ServeHTTP(w, r)
			}))
			s.store.up()
			mustEqual(t, name+": user afterwards", v.who(), "ada")
		}
	}
}

// Update meets a sign-in between the conflict and the next attempt.
func TestUpdateBesideSignInOpensItsValue(t *testing.T) {
	cfg := session.Config{Keys: [][]byte{key(1)}, Seal: true, UserKey: key(2)}
	s := newSite(t, cfg)
	bad := 0
	for range 20 {
		v := s.mustSignIn("ann")
		v.do(func(ses *session.Session) error { theme.Set(ses, "a"); return nil })
		other := v.tab()
		v.do(func(ses *session.Session) error {
			calls := 0
			done := make(chan error, 1)
			_, err := theme.Update(context.Background(), ses, func(old string) (string, error) {
				if calls++; calls <= 2 {
					other.do(func(o *session.Session) error { theme.Set(o, old+"x"); return nil })
				}
				if calls == 2 {
					on(s, "apply", func() {
						s.store.up()
						go func() { done <- ses.SignIn(context.Background(), session.Login{User: "ann"}) }()
						time.Sleep(5 * time.Millisecond)
					})
				}
				return old + "u", nil
			})
			if e := <-done; e != nil {
				t.Log("SignIn", e)
			}
			if err != nil {
				bad++
				if bad == 1 {
					t.Log("Update:", err)
				}
			}
			return nil
		})
	}
	if bad > 0 {
		t.Errorf("%d of 20 Updates failed", bad)
	}
}

func on(s *site, which string, f func()) {
	s.store.set(func(call string) error {
		if call == which {
			f()
		}
		return nil
	})
}

// Cookie's scope changed; the session rotates/renews; the old cookie stays in the browser and comes
// first.
func TestCookieOfAnOldScopeKeepsTheVisitor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{RotateEvery: 10 * time.Minute})
		v := s.mustSignIn("ann")
		v.do(readCount)
		time.Sleep(11 * time.Minute)
		old := v.cookie
		// from here the cookie's scope differs: the browser keeps old, and sends both
		for i := range 30 {
			both := v.tab()
			if v.cookie != old {
				both.cookie = old + "; " + v.cookie
			}
			before := v.cookie
			user := ""
			w := both.do(func(ses *session.Session) error { user = ses.User(); return nil })
			v.apply(w)
			if v.cookie != before {
				t.Log(i, "rotated")
			}
			if user != "ann" {
				t.Errorf("request %d (%v later): user %q, code %d", i, time.Duration(i)*5*time.Second, user, w.Code)
				t.Logf("alone: %q\n%s", v.who(), s.log)
				return
			}
			time.Sleep(5 * time.Second)
		}
	})
}

func TestRenewedTokenCountsBesideTheOldOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.mustSignIn("ann")
		old := v.cookie
		time.Sleep(2 * time.Minute)
		v.do(readCount)
		time.Sleep(2 * time.Minute)
		v.do(renew)
		time.Sleep(2 * time.Minute)
		v.do(readCount) // the new one is used
		time.Sleep(2 * time.Minute)
		both := v.tab()
		both.cookie = old + "; " + v.cookie
		t.Logf("both: %q, the live cookie alone: %q\n%s", both.who(), v.who(), s.log)
		if v.who() != "ann" {
			t.Error("signed out")
		}
	})
}

func TestFailedBearerTokenStillSetsCookies(t *testing.T) {
	var ses *session.Session
	var s *site
	cfg := session.Config{Bearer: true, OnError: func(w http.ResponseWriter, r *http.Request, err error) {
		s.store.up()
		theme.Set(ses, "sorry")
		w.WriteHeader(503)
	}}
	s = newSite(t, cfg)
	v := s.visitor()
	creates := s.store.creates.Load()
	w := v.serve(func(w http.ResponseWriter, r *http.Request, x *session.Session) error {
		ses = x
		s.store.fail("create", errDown)
		_, err := x.BearerToken(r.Context())
		return err
	})
	t.Log(w.Code, s.store.creates.Load()-creates)
	if len(newTokens(w)) == 0 {
		t.Errorf("a session was stored and nobody has its token: %q", w.Body)
	}
}

// Take fails with ErrEnded: the request continues with what it read?
func TestEndedSessionKeepsWhatTheRequestRead(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.do(func(ses *session.Session) error { notice.Set(ses, "x"); theme.Set(ses, "dark"); return nil })
	tab := v.tab()
	v.do(func(ses *session.Session) error {
		tab.do(signOut)
		_, _, err := notice.Take(context.Background(), ses)
		t.Log(err)
		if got := theme.Get(ses); got != "dark" {
			t.Errorf("after ErrEnded, theme reads %q", got)
		}
		return nil
	})
}

// TestRepeatedOriginHeadersAreRefused: a proxy may put a line of its own before the browser's.
func TestRepeatedOriginHeadersAreRefused(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	for _, tt := range []struct {
		name   string
		header http.Header
		status int
	}{
		{"same origin", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://shop.example"}}, 200},
		{"two sites", http.Header{"Sec-Fetch-Site": {"same-origin", "cross-site"}}, 403},
		{"the same site twice", http.Header{"Sec-Fetch-Site": {"same-origin", "same-origin"}}, 403},
		{"none and a site", http.Header{"Sec-Fetch-Site": {"none", "cross-site"}}, 403},
		{"an empty line and a site", http.Header{"Sec-Fetch-Site": {"", "cross-site"}}, 403},
		{"two origins", http.Header{"Origin": {"https://shop.example", "https://evil.example"}}, 403},
		{"two origins of the same site", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://a.example", "https://b.example"}}, 403},
	} {
		w, _ := v.post("POST", tt.header, "")
		mustEqual(t, tt.name, w.Code, tt.status)
	}
}
