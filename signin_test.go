package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// TestSignInMakesANewSession: from any state of a session SignIn makes a new one and sets one
// cookie.
func TestSignInMakesANewSession(t *testing.T) {
	for _, tt := range []struct {
		name    string
		session func(s *site) *visitor
		within  func(v *visitor, ses *session.Session) // called in the request before SignIn
		n       int64                                  // carried over or set by the request
	}{
		{"unknown", (*site).visitor, nil, 0},
		{"unknown, with changes", (*site).visitor, func(_ *visitor, ses *session.Session) { n.Add(ses, 7) }, 7},
		{"anonymous", (*site).known, nil, 1},
		{"anonymous, with changes", (*site).known, func(_ *visitor, ses *session.Session) { n.Add(ses, 1) }, 2},
		{"stored in this request", (*site).visitor,
			func(_ *visitor, ses *session.Session) { n.Add(ses, 7); ses.Commit(t.Context()) }, 7},
		{"renewed in this request", (*site).known, func(_ *visitor, ses *session.Session) { renew(ses) }, 1},
		{"signed out in this request", (*site).known, func(_ *visitor, ses *session.Session) { signOut(ses) }, 0},
		{"ended meanwhile", (*site).known, func(v *visitor, _ *session.Session) { v.tab().do(signOut) }, 0},
		{"ended meanwhile, and reported", (*site).known, func(v *visitor, ses *session.Session) {
			v.tab().do(signOut)
			n.Add(ses, 4)
			ses.Commit(t.Context())
		}, 4}, // not committed, so it is carried over
		{"same user", func(s *site) *visitor {
			v := s.mustSignIn("ada")
			v.do(func(ses *session.Session) error { n.Add(ses, 3); return nil })
			return v
		}, nil, 3},
		{"another user", func(s *site) *visitor {
			v := s.mustSignIn("bob")
			v.do(func(ses *session.Session) error { n.Add(ses, 3); return nil })
			return v
		}, nil, 0},
		{"twice", (*site).known, func(_ *visitor, ses *session.Session) { signIn("ada")(ses) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, session.Config{KeepFields: []string{"n"}})
			v := tt.session(s)
			old := v.tab()
			before := v.info()
			w := v.do(func(ses *session.Session) error {
				if tt.within != nil {
					tt.within(old.tab(), ses)
				}
				if err := signIn("ada")(ses); err != nil {
					return err
				}
				if i := ses.Info(); ses.User() != "ada" || i.User != "ada" || i.Handle == before.Handle ||
					n.Get(ses) != tt.n {
					t.Errorf("in the request: user %q, %+v, n = %d", ses.User(), i, n.Get(ses))
				}
				return nil
			})
			if w.Code != 200 || len(newTokens(w)) != 1 || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%d, Set-Cookie %q, %q", w.Code, cookies(w), w.Header().Get("Cache-Control"))
			}
			if v.cookie == old.cookie || v.who() != "ada" || v.count() != tt.n {
				t.Errorf("user %q, n = %d, want %d", v.who(), v.count(), tt.n)
			}
			if old.cookie != "" && (old.who() != "" || old.count() != 0) {
				t.Errorf("the old token finds user %q, n = %d", old.who(), old.count())
			}
			mustEqual(t, "sessions", s.store.Len(), 1)
		})
	}
}

// TestSignInKeepsOnlyDeclaredFields: an attacker who planted the anonymous session could have
// planted its other fields.
func TestSignInKeepsOnlyDeclaredFields(t *testing.T) {
	for _, keep := range [][]string{nil, {"theme"}, {"cart", "theme"}} {
		s := newSite(t, session.Config{KeepFields: keep})
		v := s.visitor()
		v.do(func(ses *session.Session) error {
			n.Add(ses, 1)
			theme.Set(ses, "dark")
			cart.Add(ses, "tea", 2)
			return nil
		})
		var lateTheme string
		v.do(func(ses *session.Session) error {
			err := signIn("ada")(ses)
			lateTheme = theme.Get(ses)
			return err
		})
		v.do(func(ses *session.Session) error {
			got := fmt.Sprint(n.Get(ses), theme.Get(ses), cart.Get(ses, "tea"))
			want := map[int]string{0: "00", 1: "0dark0", 2: "0dark2"}[len(keep)]
			if strings.ReplaceAll(got, " ", "") != want || lateTheme != theme.Get(ses) {
				t.Errorf("KeepFields %q: %q, in the request %q; want %q", keep, got, lateTheme, want)
			}
			return nil
		})
	}
}

// TestSignInPreventsFixation: a token that an attacker planted finds nothing once the victim has
// signed in.
func TestSignInPreventsFixation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		attacker := s.known()
		victim := s.visitor()
		victim.cookie = attacker.cookie
		victim.do(signIn("ada"))
		for range 3 {
			if attacker.who() != "" || attacker.count() != 0 {
				t.Error("the planted token finds the victim's session")
			}
			w := attacker.tab().do(func(ses *session.Session) error { return ses.SignOut(t.Context()) })
			if victim.who() != "ada" {
				t.Fatalf("the planted token signs the victim out: %d", w.Code)
			}
			time.Sleep(driver.SupersededFor)
		}
	})
}

// TestRememberNeedsMaxRemember: the error says which field to set, and to a value that New accepts.
func TestRememberNeedsMaxRemember(t *testing.T) {
	s := newSite(t, session.Config{})
	(&visitor{site: s}).do(func(ses *session.Session) error {
		for remember, want := range map[time.Duration]string{time.Hour: "24h0m0s", 48 * time.Hour: "48h0m0s"} {
			err := ses.SignIn(t.Context(), session.Login{User: "ada", Remember: remember})
			if !errors.Is(err, session.ErrInvalid) ||
				!strings.Contains(err.Error(), "Config.MaxRemember is 0") || !strings.HasSuffix(err.Error(), "at least "+want) {
				t.Errorf("Remember %v: %v", remember, err)
			}
		}
		return nil
	})
}

// TestLoginIsBounded: texts that come from the client are truncated. Values that the application
// sets are refused.
func TestLoginIsBounded(t *testing.T) {
	long := strings.Repeat("é", 1000)
	s := newSite(t, session.Config{Lifetime: time.Hour, MaxRemember: 30 * 24 * time.Hour})
	for _, tt := range []struct {
		name string
		l    session.Login
		err  error
	}{
		{"user of any bytes", session.Login{User: "\xff\x00" + strings.Repeat("\xfe", 254)}, nil},
		{"no user", session.Login{}, session.ErrInvalid},
		{"user too long", session.Login{User: strings.Repeat("u", 257)}, session.ErrInvalid},
		{"long texts of the client", session.Login{User: "ada", Device: long, UserAgent: "x" + long, Address: long},
			nil},
		{"texts that are not UTF-8", session.Login{User: "ada", Device: "a\xffb", UserAgent: "\xc3", Address: "\x00"},
			nil},
		{"methods", session.Login{User: "ada", Methods: make([]string, 16)}, nil},
		{"too many methods", session.Login{User: "ada", Methods: make([]string, 17)}, session.ErrInvalid},
		{"method too long", session.Login{User: "ada", Methods: []string{strings.Repeat("m", 33)}}, session.ErrInvalid},
		{"method that is not UTF-8", session.Login{User: "ada", Methods: []string{"\xff"}}, session.ErrInvalid},
		{"level", session.Login{User: "ada", Level: 99}, nil},
		{"level too high", session.Login{User: "ada", Level: 100}, session.ErrInvalid},
		{"negative level", session.Login{User: "ada", Level: -1}, session.ErrInvalid},
		{"remember", session.Login{User: "ada", Remember: 30 * 24 * time.Hour}, nil},
		{"remember for too long", session.Login{User: "ada", Remember: 30*24*time.Hour + 1}, session.ErrInvalid},
		{"remember under a millisecond", session.Login{User: "ada", Remember: 1}, session.ErrInvalid},
		{"negative remember", session.Login{User: "ada", Remember: -1}, session.ErrInvalid},
		{"lifetime", session.Login{User: "ada", Lifetime: time.Hour}, nil},
		{"lifetime over Config.Lifetime", session.Login{User: "ada", Lifetime: time.Hour + 1}, session.ErrInvalid},
		{"lifetime under a millisecond", session.Login{User: "ada", Lifetime: 1}, session.ErrInvalid},
		{"negative lifetime", session.Login{User: "ada", Lifetime: -time.Hour}, session.ErrInvalid},
		{"lifetime and remember", session.Login{User: "ada", Lifetime: time.Minute, Remember: time.Hour},
			session.ErrInvalid},
		{"began long ago", session.Login{User: "ada", Began: time.Now().Add(-25 * time.Hour)}, session.ErrInvalid},
		{"authenticated long ago", session.Login{User: "ada", Authenticated: time.Now().AddDate(-9, 0, 0)}, nil},
		{"authenticated too long ago", session.Login{User: "ada", Authenticated: time.Now().AddDate(-11, 0, 0)},
			session.ErrInvalid},
		{"authenticated by a clock that is ahead", session.Login{User: "ada", Authenticated: time.Now().Add(30 * time.Second)},
			nil},
		{"authenticated in the future", session.Login{User: "ada", Authenticated: time.Now().Add(2 * time.Minute)},
			session.ErrInvalid},
		{"begins tomorrow", session.Login{User: "ada", Began: time.Now().Add(24 * time.Hour)}, nil},
	} {
		v := s.known()
		w := v.do(func(ses *session.Session) error {
			if err := ses.SignIn(t.Context(), tt.l); !errors.Is(err, tt.err) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
			}
			return nil
		})
		i := v.info()
		if tt.err != nil {
			if w.Code != 200 || len(cookies(w)) != 0 || v.count() != 1 || i.User != "" {
				t.Errorf("%s: %d, Set-Cookie %q, %+v", tt.name, w.Code, cookies(w), i)
			}
			continue
		}
		if i.User != tt.l.User || i.Level != tt.l.Level || len(i.Methods) != len(tt.l.Methods) || len(newTokens(w)) != 1 {
			t.Errorf("%s: %+v, Set-Cookie %q", tt.name, i, cookies(w))
		}
		if tt.l.Device == long && (i.Device != long[:128] || i.UserAgent != "x"+long[:510] || i.Address != long[:64]) {
			t.Errorf("%s: %d, %d and %d bytes", tt.name, len(i.Device), len(i.UserAgent), len(i.Address))
		}
		if tt.name == "texts that are not UTF-8" &&
			(i.Device != "a\uFFFDb" || i.UserAgent != "\uFFFD" || i.Address != "\x00") {
			t.Errorf("%s: %+v", tt.name, i)
		}
	}
}

// TestSignInFailsWhereNoCookieCanBeSet: also if the outcome is unknown. The old session stays.
func TestSignInFailsWhereNoCookieCanBeSet(t *testing.T) {
	for name, tt := range map[string]struct {
		route session.Route
		does  func(s *site, w http.ResponseWriter)
		err   error
		code  int
	}{
		"header sent": {session.Route{}, func(_ *site, w http.ResponseWriter) { w.WriteHeader(204) },
			session.ErrHeaderSent, 204},
		"degraded": {session.Route{Down: session.DownAnonymous}, nil, session.ErrUnavailable, 503},
		"store down since": {session.Route{}, func(s *site, _ http.ResponseWriter) { s.store.down() },
			session.ErrUnavailable, 503},
		"unknown outcome": {session.Route{},
			func(s *site, _ http.ResponseWriter) { s.store.fail("signin", driver.ErrUnknown) },
			session.ErrUnknownOutcome, 503},
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		if name == "degraded" {
			s.store.down()
		}
		w := v.serveRoute(tt.route, func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			if tt.does != nil {
				tt.does(s, w)
			}
			err := signIn("ada")(ses)
			if !errors.Is(err, tt.err) {
				t.Errorf("%s: %v, want %v", name, err, tt.err)
			}
			return err
		})
		s.store.up()
		if w.Code != tt.code || len(cookies(w)) != 0 || v.count() != 1 || v.who() != "" || s.store.Len() != 1 {
			t.Errorf("%s: %d, Set-Cookie %q, n = %d, user %q", name, w.Code, cookies(w), v.count(), v.who())
		}
	}
}

// TestSignInWithoutARecordShowsNoOldUser: a store that returns no record and then goes down must
// leave nothing of the old user in the view.
func TestSignInWithoutARecordShowsNoOldUser(t *testing.T) {
	for _, down := range []bool{false, true} {
		s := newSite(t, session.Config{})
		v := s.mustSignIn("bob")
		v.do(func(ses *session.Session) error { theme.Set(ses, "bob's"); return nil })
		s.store.noRecord = true
		w := v.do(func(ses *session.Session) error {
			theme.Get(ses)
			if down {
				s.store.fail("load", errDown)
			}
			if err := signIn("ada")(ses); err != nil {
				return err
			}
			if ses.User() == "bob" || ses.Info().User == "bob" || theme.Get(ses) != "" || ses.User() != "ada" {
				t.Errorf("down %v: user %q, %+v, theme %q", down, ses.User(), ses.Info(), theme.Get(ses))
			}
			return nil
		})
		if s.store.up(); w.Code != 200 || len(cookies(w)) != 1 || v.who() != "ada" {
			t.Errorf("down %v: %d, Set-Cookie %q, user %q", down, w.Code, cookies(w), v.who())
		}
	}
	s := newSite(t, session.Config{})
	v := s.visitor()
	s.store.noRecord = true
	v.serve(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
		s.store.fail("load", errDown)
		if err := signIn("ada")(ses); err != nil {
			return err
		}
		if err := (session.Route{SignedIn: true}).Check(r.Context()); err != nil {
			t.Errorf("Check: %v", err)
		}
		return nil
	})
}

// TestLoginAuthenticated: a session that the user's identity provider began hours ago is no recent
// authentication.
func TestLoginAuthenticated(t *testing.T) {
	nothing := func(http.ResponseWriter, *http.Request, *session.Session) error { return nil }
	for _, cfg := range []session.Config{{}, {Seal: true, Keys: [][]byte{key(1)}, UserKey: key(2)}} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, cfg)
			recently := session.Route{SignedIn: true, MaxAuthAge: 10 * time.Minute}
			for _, tt := range []struct {
				ago  time.Duration // 0: Login.Authenticated is not set
				code int
			}{{0, 200}, {10 * time.Minute, 200}, {10*time.Minute + time.Millisecond, 401}, {3 * time.Hour, 401}} {
				l := session.Login{User: "ada"}
				if tt.ago != 0 {
					l.Authenticated = time.Now().Add(-tt.ago)
				}
				v := s.visitor()
				v.do(func(ses *session.Session) error {
					if err := ses.SignIn(t.Context(), l); err != nil {
						t.Errorf("authenticated %v ago: %v", tt.ago, err)
					}
					if i := ses.Info(); i.Created.Sub(i.Authenticated) != tt.ago {
						t.Errorf("authenticated %v ago: created at %v, authenticated at %v", tt.ago, i.Created, i.Authenticated)
					}
					return nil
				})
				if w := v.serveRoute(recently, nothing); w.Code != tt.code {
					t.Errorf("authenticated %v ago: %d, want %d", tt.ago, w.Code, tt.code)
				}
			}
		})
	}
}

// TestTokenThatTheStoreHasLeaves: a sign-in or a renewal is committed, and what follows in the
// request fails. The response still carries the new token, under its own name and with its own age:
// otherwise the visitor has a session that nobody can use, and that Config.MaxPerUser counts.
func TestTokenThatTheStoreHasLeaves(t *testing.T) {
	reload := func(s *site, ctx context.Context, ses *session.Session) error {
		s.store.fail("load", errDown)
		return ses.Reload(ctx)
	}
	for name, c := range map[string]struct {
		route  session.Route
		f      func(s *site, ctx context.Context, ses *session.Session) error
		status int
	}{
		"a Reload fails":              {session.Route{}, reload, 503},
		"a Reload fails in an outage": {session.Route{Down: session.DownAnonymous}, reload, 200},
		"a Reload fails, then another": {session.Route{}, func(s *site, ctx context.Context, ses *session.Session) error {
			_ = reload(s, ctx, ses)
			return reload(s, ctx, ses)
		}, 503},
		"an Update fails": {session.Route{}, func(s *site, ctx context.Context, ses *session.Session) error {
			s.store.fail("apply", errDown)
			_, err := theme.Update(ctx, ses, func(string) (string, error) { return "dark", nil })
			return err
		}, 503},
		"the handler fails": {session.Route{}, func(*site, context.Context, *session.Session) error { return session.ErrNotFound }, 404},
		"the commit fails": {session.Route{}, func(s *site, _ context.Context, ses *session.Session) error {
			s.store.fail("apply", errDown)
			theme.Set(ses, "dark")
			return nil
		}, 503},
		"a change is refused": {session.Route{}, func(_ *site, _ context.Context, ses *session.Session) error {
			session.Counter("").Add(ses, 1)
			return nil
		}, 500},
		"a sign-in is refused": {session.Route{}, func(s *site, ctx context.Context, ses *session.Session) error {
			s.store.fail("signin", errDown)
			return ses.SignIn(ctx, session.Login{User: "ada"})
		}, 503},
	} {
		for _, how := range []string{"SignIn", "Renew"} {
			t.Run(name+" after "+how, func(t *testing.T) {
				s := newSite(t, session.Config{MaxRemember: 48 * time.Hour, MaxPerUser: 1, RefuseExtra: true})
				v := s.visitor()
				login := session.Login{User: "ada", Remember: 48 * time.Hour}
				if how == "Renew" {
					v.mustDo(func(ctx context.Context, ses *session.Session) { mustEqual(t, "SignIn", ses.SignIn(ctx, login), nil) })
				}
				w := v.serveRoute(c.route, func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
					enter := func() error { return ses.SignIn(r.Context(), login) }
					if how == "Renew" {
						enter = func() error { return ses.Renew(r.Context()) }
					}
					if err := enter(); err != nil {
						t.Error(err)
					}
					return c.f(s, r.Context(), ses)
				})
				s.store.up()
				mustEqual(t, "status", w.Code, c.status)
				if set := newTokens(w); len(set) != 1 || !strings.HasPrefix(set[0], "__Host-session=") || !strings.Contains(set[0], "Max-Age=172") {
					t.Errorf("Set-Cookie %q", set)
				}
				mustEqual(t, "user afterwards", v.who(), "ada")
			})
		}
	}
}

// TestTokenOfAnEndedSessionStays: the session of a sign-in ends before the response leaves, and the
// request fails. The response carries no token, which might overwrite a newer one.
func TestTokenOfAnEndedSessionStays(t *testing.T) {
	for name, f := range map[string]func(s *site, ses *session.Session){
		"a change is refused": func(_ *site, ses *session.Session) { session.Counter("").Add(ses, 1) },
		"the handler panics":  func(*site, *session.Session) { panic("bug") },
		"the commit fails": func(s *site, ses *session.Session) {
			theme.Set(ses, "dark")
			s.store.fail("apply", errDown)
		},
		"a Reload fails, then none": func(s *site, ses *session.Session) {
			s.store.fail("load", errDown)
			_ = ses.Reload(context.Background())
			s.store.up()
			if err := ses.Reload(context.Background()); !errors.Is(err, session.ErrEnded) {
				t.Errorf("Reload: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newSite(t, session.Config{})
				v := s.visitor()
				h := s.m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
					if err := ses.SignIn(r.Context(), session.Login{User: "ada"}); err != nil {
						t.Error(err)
					}
					if _, err := s.m.RevokeUser(r.Context(), "ada"); err != nil {
						t.Error(err)
					}
					time.Sleep(60 * time.Millisecond) // longer than the store's answer counts
					f(s, ses)
					return nil
				}))
				w := v.request("GET", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() { _ = recover() }()
					h.ServeHTTP(w, r)
				}))
				if set := newTokens(w); len(set) != 0 {
					t.Errorf("Set-Cookie %q", set)
				}
			})
		})
	}
}
