package session_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
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

func TestReloadThatFailsSetsNoCookie(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.visitor()
	w := v.do(func(ses *session.Session) error {
		ctx := context.Background()
		if err := ses.SignIn(ctx, session.Login{User: "ann"}); err != nil {
			return err
		}
		s.store.fail("load", errDown)
		err := ses.Reload(ctx)
		s.store.up()
		t.Log("Reload:", err)
		return err
	})
	t.Logf("%d %q", w.Code, newTokens(w))
	for _, c := range newTokens(w) {
		if strings.Contains(c, "-anon") {
			t.Error("the token of a signed-in session under the anonymous name")
		}
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

// A store call panics, the handler recovers: the change is lost without an error.
func TestPanicInTheStoreIsNoSuccess(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	w := v.do(func(ses *session.Session) error {
		theme.Set(ses, "dark")
		func() {
			defer func() { t.Log(recover()) }()
			on(s, "apply", func() { panic("bug") })
			_ = ses.Commit(context.Background())
		}()
		s.store.up()
		return nil
	})
	got := ""
	v.do(func(ses *session.Session) error { got = theme.Get(ses); return nil })
	if w.Code == 200 && got != "dark" {
		t.Errorf("200, and the change is lost: %q", got)
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
