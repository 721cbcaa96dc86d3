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

func signIn(user string) func(*session.Session) error {
	return func(ses *session.Session) error { return ses.SignIn(context.Background(), session.Login{User: user}) }
}

// user is a visitor who signs in, from no session.
func (s *site) user(name string) *visitor {
	s.t.Helper()
	v := s.visitor()
	if w := v.do(signIn(name)); w.Code != 200 || len(cookies(w)) != 1 {
		s.t.Fatalf("SignIn: %d, Set-Cookie %q", w.Code, cookies(w))
	}
	return v
}

// who returns the user that a new request sees.
func (v *visitor) who() (user string) {
	v.also().do(func(ses *session.Session) error { user = ses.User(); return nil })
	return user
}

func (v *visitor) info() (i session.Info) {
	v.also().do(func(ses *session.Session) error { i = ses.Info(); return nil })
	return i
}

// TestSignIn: from each state that a session can be in there is a way to sign in, with one new cookie.
func TestSignIn(t *testing.T) {
	for _, tt := range []struct {
		name    string
		session func(s *site) *visitor
		within  func(v *visitor, ses *session.Session) // in the request, before
		n       int64                                  // n comes along, or what the request sets
	}{
		{"unknown", (*site).visitor, nil, 0},
		{"unknown, with changes", (*site).visitor, func(_ *visitor, ses *session.Session) { n.Add(ses, 7) }, 7},
		{"anonymous", (*site).known, nil, 1},
		{"anonymous, with changes", (*site).known, func(_ *visitor, ses *session.Session) { n.Add(ses, 1) }, 2},
		{"stored in this request", (*site).visitor, func(_ *visitor, ses *session.Session) { n.Add(ses, 7); ses.Commit(t.Context()) }, 7},
		{"renewed in this request", (*site).known, func(_ *visitor, ses *session.Session) { renew(ses) }, 1},
		{"signed out in this request", (*site).known, func(_ *visitor, ses *session.Session) { signOut(ses) }, 0},
		{"ended meanwhile", (*site).known, func(v *visitor, _ *session.Session) { v.also().do(signOut) }, 0},
		{"ended meanwhile, and that is known", (*site).known, func(v *visitor, ses *session.Session) {
			v.also().do(signOut)
			n.Add(ses, 4)
			ses.Commit(t.Context())
		}, 4}, // not committed, so it comes along
		{"same user", func(s *site) *visitor {
			v := s.user("ada")
			v.do(func(ses *session.Session) error { n.Add(ses, 3); return nil })
			return v
		}, nil, 3},
		{"another user", func(s *site) *visitor {
			v := s.user("bob")
			v.do(func(ses *session.Session) error { n.Add(ses, 3); return nil })
			return v
		}, nil, 0},
		{"twice", (*site).known, func(_ *visitor, ses *session.Session) { signIn("ada")(ses) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, session.Config{KeepFields: []string{"n"}})
			v := tt.session(s)
			old := v.also()
			before := v.info()
			w := v.do(func(ses *session.Session) error {
				if tt.within != nil {
					tt.within(old.also(), ses)
				}
				if err := signIn("ada")(ses); err != nil {
					return err
				}
				if i := ses.Info(); ses.User() != "ada" || i.User != "ada" || i.Handle == before.Handle || n.Get(ses) != tt.n {
					t.Errorf("in the request: user %q, %+v, n = %d", ses.User(), i, n.Get(ses))
				}
				return nil
			})
			if w.Code != 200 || len(cookies(w)) != 1 || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%d, Set-Cookie %q, %q", w.Code, cookies(w), w.Header().Get("Cache-Control"))
			}
			if v.cookie == old.cookie || v.who() != "ada" || v.count() != tt.n {
				t.Errorf("user %q, n = %d, want %d", v.who(), v.count(), tt.n)
			}
			if old.cookie != "" && (old.who() != "" || old.count() != 0) {
				t.Errorf("the token before leads to user %q, n = %d", old.who(), old.count())
			}
			want(t, "sessions", s.store.Len(), 1)
		})
	}
}

// TestSignInKeepsOnlyDeclaredFields: whoever planted the anonymous session planted its other fields, too.
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
			is := fmt.Sprint(n.Get(ses), theme.Get(ses), cart.Get(ses, "tea"))
			wants := map[int]string{0: "00", 1: "0dark0", 2: "0dark2"}[len(keep)]
			if strings.ReplaceAll(is, " ", "") != wants || lateTheme != theme.Get(ses) {
				t.Errorf("KeepFields %q: %q, in the request %q; want %q", keep, is, lateTheme, wants)
			}
			return nil
		})
	}
}

// TestFixation: a token that an attacker planted, and knows, is worth nothing once the victim has signed in, now and later.
func TestFixation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		attacker := s.known()
		victim := s.visitor()
		victim.cookie = attacker.cookie
		victim.do(signIn("ada"))
		for range 3 {
			if attacker.who() != "" || attacker.count() != 0 {
				t.Error("the planted token leads to the victim's session")
			}
			w := attacker.also().do(func(ses *session.Session) error { return ses.SignOut(t.Context()) })
			if victim.who() != "ada" {
				t.Fatalf("the planted token signs the victim out: %d", w.Code)
			}
			time.Sleep(driver.SupersededFor)
		}
	})
}

// TestSlowRequestWhileSignedIn: a request under way with the token before changes nothing, and never sends a cookie over the new one.
func TestSlowRequestWhileSignedIn(t *testing.T) {
	for name, f := range map[string]func(ses *session.Session) error{
		"reads":         func(ses *session.Session) error { n.Get(ses); return nil },
		"writes":        func(ses *session.Session) error { n.Add(ses, 1); return nil },
		"commits":       func(ses *session.Session) error { n.Add(ses, 1); return ses.Commit(t.Context()) },
		"renews":        renew,
		"sets anew":     func(ses *session.Session) error { ses.Clear(); theme.Set(ses, "x"); return nil },
		"reads it anew": func(ses *session.Session) error { return ses.Reload(t.Context()) },
	} {
		for _, begins := range []string{"before", "after"} {
			t.Run(name+", begun "+begins, func(t *testing.T) {
				s := newSite(t, session.Config{KeepFields: []string{"n"}})
				v := s.known()
				slow := v.also()
				if begins == "after" {
					v.do(signIn("ada"))
				}
				w := slow.do(func(ses *session.Session) error {
					if begins == "before" {
						v.do(signIn("ada"))
					}
					return f(ses)
				})
				if wants := map[bool]int{true: 200, false: 409}[name == "reads"]; len(cookies(w)) != 0 || w.Code != wants &&
					(name != "renews" || begins != "after") {
					t.Errorf("%d, Set-Cookie %q; want %d", w.Code, cookies(w), wants)
				}
				if v.who() != "ada" || v.count() != 1 || s.store.Len() != 1 {
					t.Errorf("user %q, n = %d, %d sessions", v.who(), v.count(), s.store.Len())
				}
			})
		}
	}
}

// TestSignOutAfterSignInElsewhere: the sign-out of a request whose session moved ends that session alone. A planted token must not
// lead to the session that took its place, not even to end it.
func TestSignOutAfterSignInElsewhere(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	slow := v.also()
	v.do(signIn("ada"))
	if w := slow.do(signOut); w.Code != 200 || len(cookies(w)) != 0 || v.who() != "ada" {
		t.Errorf("%d, Set-Cookie %q, user %q", w.Code, cookies(w), v.who())
	}
}

// TestLoginBounds: what a client sends is cut, what the application says is refused.
func TestLoginBounds(t *testing.T) {
	long := strings.Repeat("é", 1000)
	s := newSite(t, session.Config{Lifetime: time.Hour, MaxRemember: 30 * 24 * time.Hour})
	for _, tt := range []struct {
		name string
		l    session.Login
		err  error
	}{
		{"user of any bytes", session.Login{User: "\xff\x00" + strings.Repeat("\xfe", 254)}, nil},
		{"no user", session.Login{}, session.ErrInvalid},
		{"long user", session.Login{User: strings.Repeat("u", 257)}, session.ErrInvalid},
		{"texts of clients", session.Login{User: "ada", Device: long, UserAgent: "x" + long, Address: long}, nil},
		{"broken texts", session.Login{User: "ada", Device: "a\xffb", UserAgent: "\xc3", Address: "\x00"}, nil},
		{"methods", session.Login{User: "ada", Methods: make([]string, 16)}, nil},
		{"many methods", session.Login{User: "ada", Methods: make([]string, 17)}, session.ErrInvalid},
		{"long method", session.Login{User: "ada", Methods: []string{strings.Repeat("m", 33)}}, session.ErrInvalid},
		{"broken method", session.Login{User: "ada", Methods: []string{"\xff"}}, session.ErrInvalid},
		{"level", session.Login{User: "ada", Level: 99}, nil},
		{"high level", session.Login{User: "ada", Level: 100}, session.ErrInvalid},
		{"negative level", session.Login{User: "ada", Level: -1}, session.ErrInvalid},
		{"remember", session.Login{User: "ada", Remember: 30 * 24 * time.Hour}, nil},
		{"remember for too long", session.Login{User: "ada", Remember: 30*24*time.Hour + 1}, session.ErrInvalid},
		{"remember for no time", session.Login{User: "ada", Remember: 1}, session.ErrInvalid},
		{"remember backwards", session.Login{User: "ada", Remember: -1}, session.ErrInvalid},
		{"lifetime", session.Login{User: "ada", Lifetime: time.Hour}, nil},
		{"longer than others", session.Login{User: "ada", Lifetime: time.Hour + 1}, session.ErrInvalid},
		{"less than the store's clock shows", session.Login{User: "ada", Lifetime: 1}, session.ErrInvalid},
		{"lifetime backwards", session.Login{User: "ada", Lifetime: -time.Hour}, session.ErrInvalid},
		{"both lifetimes", session.Login{User: "ada", Lifetime: time.Minute, Remember: time.Hour}, session.ErrInvalid},
		{"began long ago", session.Login{User: "ada", Began: time.Now().Add(-25 * time.Hour)}, session.ErrRevoked},
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
		if i.User != tt.l.User || i.Level != tt.l.Level || len(i.Methods) != len(tt.l.Methods) || len(cookies(w)) != 1 {
			t.Errorf("%s: %+v, Set-Cookie %q", tt.name, i, cookies(w))
		}
		if tt.l.Device == long && (i.Device != long[:128] || i.UserAgent != "x"+long[:510] || i.Address != long[:64]) {
			t.Errorf("%s: %d, %d and %d bytes", tt.name, len(i.Device), len(i.UserAgent), len(i.Address))
		}
		if tt.name == "broken texts" && (i.Device != "a\uFFFDb" || i.UserAgent != "\uFFFD" || i.Address != "\x00") {
			t.Errorf("%s: %+v", tt.name, i)
		}
	}
}

// TestRemember: one sign-in may last longer, with a cookie that outlives the browser; the others go with it.
func TestRemember(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{Lifetime: time.Hour, IdleTimeout: time.Minute, MaxRemember: 48 * time.Hour})
		remembered, other := s.visitor(), s.user("ada")
		w := remembered.do(func(ses *session.Session) error {
			return ses.SignIn(t.Context(), session.Login{User: "ada", Remember: 48 * time.Hour})
		})
		if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge != 48*3600 {
			t.Errorf("Set-Cookie %q", cookies(w))
		}
		time.Sleep(time.Minute)
		if other.who() != "" {
			t.Error("who is not remembered stays beyond the idle limit")
		}
		time.Sleep(24*time.Hour - time.Minute)
		w = remembered.do(renew)
		if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge != 24*3600 {
			t.Errorf("renewed: Set-Cookie %q", cookies(w))
		}
		time.Sleep(24*time.Hour - time.Millisecond)
		want(t, "user", remembered.who(), "ada")
		time.Sleep(time.Millisecond)
		want(t, "user after the deadline", remembered.who(), "")
	})
	s := newSite(t, session.Config{})
	w := s.visitor().do(func(ses *session.Session) error {
		return ses.SignIn(t.Context(), session.Login{User: "ada", Remember: time.Hour})
	})
	wantAnswer(t, w, 500)
	if w := s.user("ada").do(renew); strings.Contains(cookies(w)[0], "Max-Age") {
		t.Errorf("not remembered: Set-Cookie %q", cookies(w))
	}
}

// TestMaxPerUser: the oldest session ends, or the new one is refused and nothing has happened.
func TestMaxPerUser(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{MaxPerUser: 2, RefuseExtra: refuse})
			var all []*visitor
			for range 2 {
				all = append(all, s.user("ada"))
				time.Sleep(time.Second)
			}
			all[1].do(signIn("ada")) // in place of its own
			want(t, "oldest", all[0].who(), "ada")
			time.Sleep(time.Second)
			v := s.known()
			w := v.do(func(ses *session.Session) error { n.Add(ses, 1); return signIn("ada")(ses) })
			if refuse {
				if wantAnswer(t, w, 409); len(cookies(w)) != 0 || all[0].who() != "ada" || v.count() != 1 {
					t.Errorf("Set-Cookie %q, oldest %q, n = %d", cookies(w), all[0].who(), v.count())
				}
				w = v.do(func(ses *session.Session) error { // a handler that goes on
					if err := signIn("ada")(ses); !errors.Is(err, session.ErrTooMany) {
						t.Errorf("SignIn: %v, want ErrTooMany", err)
					}
					n.Add(ses, 1)
					return nil
				})
				if w.Code != 200 || v.count() != 2 || v.who() != "" {
					t.Errorf("%d, n = %d, user %q", w.Code, v.count(), v.who())
				}
				all[0].do(signOut)
				want(t, "status", v.do(signIn("ada")).Code, 200)
				return
			}
			if w.Code != 200 || v.who() != "ada" || all[0].who() != "" || all[1].who() != "ada" {
				t.Errorf("%d, new %q, oldest %q, other %q", w.Code, v.who(), all[0].who(), all[1].who())
			}
		})
	}
}

// TestSignInTooLate: what cannot give the browser its new cookie does not sign in.
func TestSignInTooLate(t *testing.T) {
	for name, tt := range map[string]struct {
		route session.Route
		does  func(s *site, w http.ResponseWriter)
		err   error
		code  int
	}{
		"header sent":      {session.Route{}, func(_ *site, w http.ResponseWriter) { w.WriteHeader(204) }, session.ErrHeaderSent, 204},
		"degraded":         {session.Route{Down: session.DownAnonymous}, nil, session.ErrUnavailable, 503},
		"store down since": {session.Route{}, func(s *site, _ http.ResponseWriter) { s.store.down() }, session.ErrUnavailable, 503},
		"unknown outcome": {session.Route{}, func(s *site, _ http.ResponseWriter) { s.store.fail("signin", driver.ErrUnknown) },
			session.ErrUnknownOutcome, 503},
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		if name == "degraded" {
			s.store.down()
		}
		w := v.handle(tt.route.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			if tt.does != nil {
				tt.does(s, w)
			}
			err := signIn("ada")(ses)
			if !errors.Is(err, tt.err) {
				t.Errorf("%s: %v, want %v", name, err, tt.err)
			}
			return err
		})))
		s.store.up()
		if w.Code != tt.code || len(cookies(w)) != 0 || v.count() != 1 || v.who() != "" || s.store.Len() != 1 {
			t.Errorf("%s: %d, Set-Cookie %q, n = %d, user %q", name, w.Code, cookies(w), v.count(), v.who())
		}
	}
}

// TestSignInWithoutARecord: a store that does not return the new record, and then goes down, leaves nothing of the user before in view.
func TestSignInWithoutARecord(t *testing.T) {
	for _, down := range []bool{false, true} {
		s := newSite(t, session.Config{})
		v := s.user("bob")
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
	v.handle(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
		s.store.fail("load", errDown)
		if err := signIn("ada")(ses); err != nil {
			return err
		}
		if err := (session.Route{SignedIn: true}).Check(r.Context()); err != nil {
			t.Errorf("Check: %v", err)
		}
		return nil
	}))
}

// TestBearerSignIn: an API's client signs in with its token, or with none, and is handed the new one; no cookie is set.
func TestBearerSignIn(t *testing.T) {
	s := newSite(t, session.Config{Bearer: true, KeepFields: []string{"n"}})
	for _, header := range []string{"", "Bearer " + s.bearer(t)} {
		var token string
		h := http.Header{}
		if header != "" {
			h.Set("Authorization", header)
		}
		w, _ := s.send(h, func(ses *session.Session) (err error) {
			if err = signIn("ada")(ses); err == nil {
				token, err = ses.BearerToken(t.Context())
			}
			return err
		})
		if w.Code != 200 || len(cookies(w)) != 0 || "Bearer "+token == header {
			t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
		}
		user := ""
		s.send(http.Header{"Authorization": {"Bearer " + token}}, func(ses *session.Session) error { user = ses.User(); return nil })
		want(t, "user", user, "ada")
		if header != "" {
			_, got := s.send(h, nil)
			want(t, "n under the old token", got, 0)
		}
	}
}

// TestRouteOfUsers: what routes ask of an authentication, and how signing in again meets it and keeps what the session has.
func TestRouteOfUsers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.visitor()
		as := func(l session.Login) {
			t.Helper()
			l.User = "ada"
			want(t, "status", v.do(func(ses *session.Session) error { return ses.SignIn(t.Context(), l) }).Code, 200)
		}
		code := func(rt session.Route) int {
			return v.also().handle(rt.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))).Code
		}
		recently, twoFactors, high := session.Route{MaxAuthAge: 10 * time.Minute}, session.Route{AuthMethods: []string{"pwd", "otp"}}, session.Route{MinLevel: 2}
		want(t, "nobody", code(session.Route{SignedIn: true}), 401)
		as(session.Login{Methods: []string{"pwd"}, Level: 1})
		v.do(func(ses *session.Session) error { n.Add(ses, 1); return nil })
		time.Sleep(10 * time.Minute)
		want(t, "at 10 min", code(recently), 200)
		time.Sleep(time.Millisecond)
		want(t, "after 10 min", code(recently), 401)
		v.do(renew)
		want(t, "renewed, not authenticated", code(recently), 401)
		want(t, "one factor", code(twoFactors), 401)
		want(t, "low level", code(high), 401)
		old := v.info()
		as(session.Login{Methods: []string{"otp", "pwd"}, Level: 2})
		want(t, "authenticated again", code(recently), 200)
		want(t, "two factors", code(twoFactors), 200)
		want(t, "high level", code(high), 200)
		want(t, "n", v.count(), 1)
		if i := v.info(); !i.Deadline.Equal(old.Deadline.Add(10*time.Minute+time.Millisecond)) || i.Handle == old.Handle {
			t.Errorf("the new authentication has not begun both limits anew: %+v", i)
		}
		as(session.Login{Methods: []string{"pwd"}, Level: 1})
		want(t, "low level again", code(high), 401)
	})
}
