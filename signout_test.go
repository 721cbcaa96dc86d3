package session_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// TestSignOutEndsTheSession: and deletes the cookie.
func TestSignOutEndsTheSession(t *testing.T) {
	t.Run("deletes the cookie", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		old := v.tab()
		w := v.do(signOut)
		if c := cookies(w); len(c) != 1 ||
			c[0] != "__Host-session-anon=; Path=/; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; HttpOnly; Secure; SameSite=Lax" {
			t.Errorf("Set-Cookie %q", c)
		}
		if old.count() != 0 || s.store.Len() != 0 {
			t.Errorf("the old cookie finds n = %d", old.count())
		}
	})
	t.Run("drops changes that are not committed", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		w := v.do(func(ses *session.Session) error { n.Add(ses, 1); return signOut(ses) })
		if w.Code != 200 || s.store.Len() != 0 {
			t.Errorf("%d, %d sessions", w.Code, s.store.Len())
		}
	})
	t.Run("then a write makes a new session", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		old := v.tab()
		w := v.do(func(ses *session.Session) error {
			if err := signOut(ses); err != nil {
				return err
			}
			if n.Get(ses) != 0 {
				t.Error("the ended session's field is still there")
			}
			n.Add(ses, 7)
			return nil
		})
		if len(cookies(w)) != 1 || v.count() != 7 || old.count() != 0 {
			t.Errorf("Set-Cookie %q, n = %d, want 7; the old cookie finds %d", cookies(w), v.count(), old.count())
		}
	})
	t.Run("of a session made by the same request", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.visitor()
		w := v.do(func(ses *session.Session) error {
			n.Add(ses, 1)
			if err := ses.Commit(context.Background()); err != nil {
				return err
			}
			return signOut(ses)
		})
		if w.Code != 200 || v.cookie != "" || s.store.Len() != 0 {
			t.Errorf("%d, cookie %q, %d sessions", w.Code, v.cookie, s.store.Len())
		}
	})
	t.Run("without a session", func(t *testing.T) {
		s := newSite(t, session.Config{})
		if w := s.visitor().do(signOut); w.Code != 200 || len(cookies(w)) != 0 || s.store.ends.Load() != 0 {
			t.Errorf("%d, Set-Cookie %q, %d ended", w.Code, cookies(w), s.store.ends.Load())
		}
	})
	t.Run("after a failed commit", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		s.store.fail("apply", errDown)
		w := v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			if ses.Commit(r.Context()) == nil || signOut(ses) != nil {
				t.Error("want an error of Commit and none of SignOut")
			}
			s.store.fail("create", errDown)
			n.Add(ses, 1)
			http.Error(w, "mine", 400) // the handler got another error
			return nil
		})
		mustAnswer(t, w, 503)
	})
}

// TestVisitorOfAnEndedSessionIsNew: the first write sets a new cookie.
func TestVisitorOfAnEndedSessionIsNew(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	old := v.cookie
	v.tab().do(signOut)
	w := v.do(readCount)
	if len(cookies(w)) != 0 {
		t.Errorf("reading sends Set-Cookie %q", cookies(w))
	}
	w = v.do(func(ses *session.Session) error { n.Add(ses, 3); return nil })
	if w.Code != 200 || len(cookies(w)) != 1 || v.cookie == old || v.count() != 3 {
		t.Errorf("%d, Set-Cookie %q, n = %d", w.Code, cookies(w), v.count())
	}
}

// TestSignOutDeletesTheCookieWhenTheStoreIsDown: SignOut returns the error, the response is 503,
// and no session is made.
func TestSignOutDeletesTheCookieWhenTheStoreIsDown(t *testing.T) {
	down := session.Route{Down: session.DownAnonymous}
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"read before": func(h http.Handler) http.Handler { return h },
		"degraded":    down.Handler,
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		old := v.tab()
		if name == "degraded" {
			s.store.down()
		}
		w := v.handle(wrap(session.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				s.store.down()
				err := ses.SignOut(r.Context())
				if !errors.Is(err, session.ErrUnavailable) {
					t.Errorf("SignOut: %v", err)
				}
				n.Add(ses, 1)
				return err
			})))
		mustAnswer(t, w, 503)
		if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 || c[0].Value != "" {
			t.Errorf("%s: Set-Cookie %q, want its deletion", name, cookies(w))
		}
		s.store.up()
		if old.count() != 1 || s.store.Len() != 1 {
			t.Errorf("%s: n = %d, %d sessions", name, old.count(), s.store.Len())
		}
	}
}

// TestFeedReportsSignOutOfAnUnreadSession: the session could not be read, but it is still published
// as a user's.
func TestFeedReportsSignOutOfAnUnreadSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newFaultyStore()
		n := newNodes(t, store, session.Config{}, session.Config{})
		l := followEvents(t, n[1].m)
		v := n[0].mustSignIn("ada")
		handle := v.info().Handle
		store.fail("load", errDown)
		v.serveRoute(session.Route{Down: session.DownAnonymous},
			func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
				store.up()
				return ses.SignOut(r.Context())
			})
		synctest.Wait()
		l.mustReport(t, "the other node", "signed in "+handle+" ada", "signed out "+handle)
	})
}

// TestExemptSignOutDeletesTheCookieWhenTheStoreIsDown: on a route in CSRFExempt the cookie is
// deleted, but not for a request from another site.
func TestExemptSignOutDeletesTheCookieWhenTheStoreIsDown(t *testing.T) {
	s := newSite(t, session.Config{CSRF: true, CSRFExempt: []string{"POST /{$}"}})
	v := s.known()
	s.store.down()
	h := s.m.Handler(session.Route{Down: session.DownAnonymous}.Handler(session.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
			return ses.SignOut(r.Context())
		})))
	v.header["Sec-Fetch-Site"] = "cross-site"
	mustAnswer(t, v.request("POST", h), 403)
	v.header["Sec-Fetch-Site"] = "same-origin"
	mustAnswer(t, v.request("POST", h), 503)
	mustEqual(t, "the cookie", v.cookie, "")
}

// TestSignOutWithASupersededTokenSparesTheNewSession: a planted token must not find the session
// that replaced it, not even to end it.
func TestSignOutWithASupersededTokenSparesTheNewSession(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	slow := v.tab()
	v.do(signIn("ada"))
	if w := slow.do(signOut); w.Code != 409 || len(cookies(w)) != 0 || v.who() != "ada" {
		t.Errorf("%d, Set-Cookie %q, user %q", w.Code, cookies(w), v.who())
	}
}

// TestSignOutFromACopyStartsANewSession: the request began with a copy, and the store is back.
// Later changes go into a new session.
func TestSignOutFromACopyStartsANewSession(t *testing.T) {
	store := newCachingStore(newFaultyStore())
	t.Cleanup(func() { store.Close() })
	s := store.newSite(t, session.Config{})
	v := s.known()
	mustEqual(t, "n", v.count(), 1)
	store.down()
	w := v.serveRoute(session.Route{Down: session.DownReadOnly},
		func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
			mustEqual(t, "degraded", ses.Degraded(), true)
			store.up()
			if err := ses.SignOut(r.Context()); err != nil {
				return err
			}
			mustEqual(t, "degraded after it", ses.Degraded(), false)
			n.Add(ses, 5)
			return ses.SignIn(r.Context(), session.Login{User: "ada"})
		})
	if w.Code != 200 || len(newTokens(w)) != 1 || v.count() != 5 {
		t.Errorf("%d, Set-Cookie %q, n %d", w.Code, cookies(w), v.count())
	}
}

// TestClearSiteDataIsSentWithSignOutOnly: no other call sends the header.
func TestClearSiteDataIsSentWithSignOutOnly(t *testing.T) {
	const all = `"cache", "cookies", "storage"`
	three := []string{"cache", "cookies", "storage"}
	begin := func(ses *session.Session) error {
		err := signOut(ses)
		n.Add(ses, 5)
		return err
	}
	for _, tt := range []struct {
		name       string
		directives []string
		f          func(ses *session.Session) error
		want       string
	}{
		{"by default", nil, signOut, ""},
		{"configured", three, signOut, all},
		{"everything", []string{"*"}, signOut, `"*"`},
		{"reading", three, readCount, ""},
		{"writing", three, increment, ""},
		{"renewal", three, renew, ""},
		{"a new session in the same response", three, begin, `"cache", "storage"`},
		{"a new session, everything", []string{"*"}, begin,
			`"cache", "clientHints", "executionContexts", "prefetchCache", "prerenderCache", "storage"`},
		{"a new session, cookies alone", []string{"cookies"}, begin, ""},
		{"an error after the sign-out", three, func(ses *session.Session) error {
			signOut(ses)
			return errors.New("no template")
		}, all},
	} {
		s := newSite(t, session.Config{ClearSiteData: tt.directives})
		v := s.known()
		if got := v.do(tt.f).Result().Header.Get("Clear-Site-Data"); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestClearSiteDataInUnusualSignOuts: the header is sent if the response deletes the cookie of the
// session.
func TestClearSiteDataInUnusualSignOuts(t *testing.T) {
	cfg := session.Config{ClearSiteData: []string{"storage"}}
	t.Run("without a session", func(t *testing.T) {
		w := newSite(t, cfg).visitor().do(signOut)
		mustEqual(t, "header for a visitor without a cookie", w.Result().Header.Get("Clear-Site-Data"), "")
	})
	t.Run("after the header", func(t *testing.T) {
		w := newSite(t, cfg).known().serve(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			w.Write([]byte("page"))
			return signOut(s)
		})
		mustEqual(t, "header", w.Result().Header.Get("Clear-Site-Data"), "")
	})
	t.Run("the store is down", func(t *testing.T) {
		s := newSite(t, cfg)
		v := s.known()
		s.store.fail("end", errDown)
		w := v.do(signOut)
		mustAnswer(t, w, 503)
		mustEqual(t, "header", w.Result().Header.Get("Clear-Site-Data"), `"storage"`)
	})
	t.Run("superseded token", func(t *testing.T) { // the browser has a newer session and its data
		s := newSite(t, cfg)
		v := s.known()
		late := v.tab()
		v.do(signIn("ada"))
		mustEqual(t, "header", late.do(signOut).Result().Header.Get("Clear-Site-Data"), "")
	})
	t.Run("set by the application", func(t *testing.T) {
		w := newSite(t, cfg).known().serve(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			w.Header().Set("Clear-Site-Data", `"cache"`)
			return signOut(s)
		})
		mustEqual(t, "header", strings.Join(w.Result().Header["Clear-Site-Data"], "|"), `"cache"`)
	})
	t.Run("without net/http", func(t *testing.T) {
		s := newSite(t, cfg)
		ctx := mustLoad(t, s.m, s.known().cookie)
		ses, err := session.From(ctx)
		if err != nil || signOut(ses) != nil {
			t.Fatal(err)
		}
		h, err := s.m.Commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		mustEqual(t, "header of Commit", h.Get("Clear-Site-Data"), `"storage"`)
	})
}

// TestNewRefusesInvalidClearSiteData: the error names the field.
func TestNewRefusesInvalidClearSiteData(t *testing.T) {
	for _, directives := range [][]string{
		{""}, {`"cache"`}, {"Cache"}, {"cache", "cache"}, {"storage", "cookie"}, {"cache, storage"}, {"x\r\nSet-Cookie: a"},
	} {
		_, err := session.New(memstore.New(), session.Config{ClearSiteData: directives})
		if err == nil || !strings.HasPrefix(err.Error(), "session: Config.ClearSiteData: ") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", directives, err)
		}
	}
}

// TestSignOutOfAnEndedSessionDeletesTheCookie: another node revoked the session, and the request
// has noticed. The sign-out succeeds all the same, and what is set after it goes into a new
// session.
func TestSignOutOfAnEndedSessionDeletesTheCookie(t *testing.T) {
	for name, notice := range map[string]func(ctx context.Context, ses *session.Session) error{
		"Reload": func(ctx context.Context, ses *session.Session) error { return ses.Reload(ctx) },
		"fresh route": func(ctx context.Context, _ *session.Session) error {
			return session.Route{Fresh: true, SignedIn: true}.Check(ctx)
		},
		"Renew":  func(ctx context.Context, ses *session.Session) error { return ses.Renew(ctx) },
		"Commit": func(ctx context.Context, ses *session.Session) error { n.Add(ses, 1); return ses.Commit(ctx) },
		"Update": func(ctx context.Context, ses *session.Session) error {
			_, err := theme.Update(ctx, ses, func(string) (string, error) { return "x", nil })
			return err
		},
		"Take": func(ctx context.Context, ses *session.Session) error { _, _, err := theme.Take(ctx, ses); return err },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, session.Config{ClearSiteData: []string{"storage"}})
			v := s.mustSignIn("ada")
			v.mustDo(func(_ context.Context, ses *session.Session) { theme.Set(ses, "dark") })
			w := v.serve(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
				theme.Get(ses)
				if _, err := s.m.RevokeUser(r.Context(), "ada"); err != nil {
					return err
				}
				if err := notice(r.Context(), ses); err == nil {
					t.Error("nothing was noticed")
				}
				if err := ses.SignOut(r.Context()); err != nil {
					return err
				}
				n.Add(ses, 5)
				return nil
			})
			if w.Code != 200 || w.Header().Get("Clear-Site-Data") == "" || strings.Contains(v.cookie, "session=") || v.count() != 5 {
				t.Errorf("%d, Clear-Site-Data %q, cookie %q, n = %d, want 5", w.Code, w.Header().Get("Clear-Site-Data"), v.cookie, v.count())
			}
		})
	}
}

// TestRepeatedSignOutSucceeds: the first one failed. What is set after the second goes into a new
// session.
func TestRepeatedSignOutSucceeds(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.mustSignIn("ada")
	old := v.tab()
	w := v.do(func(ses *session.Session) error {
		s.store.fail("end", errDown)
		if err := signOut(ses); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("SignOut: %v, want ErrUnavailable", err)
		}
		s.store.up()
		if err := signOut(ses); err != nil {
			return err
		}
		n.Add(ses, 5)
		return nil
	})
	if w.Code != 200 || old.who() != "" || v.count() != 5 {
		t.Errorf("%d, the old cookie is %q's, n = %d, want 5", w.Code, old.who(), v.count())
	}
}

// TestCSRFGuardsSignOutWithASupersededToken: the token still ends the session that it was of.
func TestCSRFGuardsSignOutWithASupersededToken(t *testing.T) {
	s := newSite(t, session.Config{CSRF: true})
	v := s.mustSignIn("ada")
	old := v.tab()
	v.do(renew)
	h := s.m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
		return ses.SignOut(r.Context())
	}))
	mustEqual(t, "status", old.request("POST", h).Code, 403)
	mustEqual(t, "user", v.who(), "ada")
}
