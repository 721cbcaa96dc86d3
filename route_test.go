package session_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
)

// TestRouteAdmitsOnlyWhoMeetsIt: each field of Route, for an unknown visitor, an anonymous session
// and a user.
func TestRouteAdmitsOnlyWhoMeetsIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		unknown, anonymous := s.visitor(), s.known()
		ada := s.visitor()
		ada.do(func(ses *session.Session) error {
			return ses.SignIn(t.Context(), session.Login{User: "ada", Methods: []string{"pwd", "otp"}, Level: 2})
		})
		time.Sleep(10 * time.Minute)
		for _, tt := range []struct {
			name                    string
			route                   session.Route
			unknown, anonymous, ada int
		}{
			{"no demands", session.Route{}, 200, 200, 200},
			{"fresh", session.Route{Fresh: true}, 200, 200, 200},
			{"signed in", session.Route{SignedIn: true}, 401, 401, 200},
			{"recently", session.Route{SignedIn: true, MaxAuthAge: 10 * time.Minute}, 401, 401, 200},
			{"very recently", session.Route{MaxAuthAge: 10*time.Minute - 1}, 401, 401, 401},
			{"methods", session.Route{AuthMethods: []string{"otp", "pwd"}}, 401, 401, 200},
			{"other methods", session.Route{AuthMethods: []string{"otp", "hwk"}}, 401, 401, 401},
			{"level", session.Route{MinLevel: 2}, 401, 401, 200},
			{"higher level", session.Route{MinLevel: 3}, 401, 401, 401},
		} {
			for _, who := range []struct {
				v    *visitor
				want int
			}{{unknown, tt.unknown}, {anonymous, tt.anonymous}, {ada, tt.ada}} {
				ran := false
				w := who.v.handle(tt.route.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
					ran = true
				})))
				if w.Code != who.want || ran != (who.want == 200) {
					t.Errorf("%s: %d, ran: %v, want %d", tt.name, w.Code, ran, who.want)
				}
			}
		}
		ada.do(func(ses *session.Session) error {
			if i := ses.Info(); ses.User() != "ada" || i.User != "ada" || i.Level != 2 || len(i.Methods) != 2 ||
				i.Deadline.Sub(i.Created) != 24*time.Hour {
				t.Errorf("%+v", i)
			}
			return nil
		})
		for err, is := range map[error]session.Route{session.ErrNotSignedIn: {SignedIn: true, Fresh: true},
			session.ErrNoManager: {}} {
			r := mustLoad(t, anonymous.site.m, anonymous.cookie)
			if err == session.ErrNoManager {
				r = t.Context()
			}
			if got := is.Check(r); !errors.Is(got, err) {
				t.Errorf("Check: %v, want %v", got, err)
			}
		}
	})
}

// TestSigningInAgainMeetsTheRoute: signing in again keeps the fields and starts both time limits
// again. A weaker sign-in lowers the level.
func TestSigningInAgainMeetsTheRoute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.visitor()
		as := func(l session.Login) {
			t.Helper()
			l.User = "ada"
			mustEqual(t, "status", v.do(func(ses *session.Session) error { return ses.SignIn(t.Context(), l) }).Code,
				200)
		}
		code := func(rt session.Route) int {
			return v.tab().handle(rt.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))).Code
		}
		recently, high := session.Route{MaxAuthAge: 10 * time.Minute}, session.Route{MinLevel: 2}
		twoFactors := session.Route{AuthMethods: []string{"pwd", "otp"}}
		mustEqual(t, "not signed in", code(session.Route{SignedIn: true}), 401)
		as(session.Login{Methods: []string{"pwd"}, Level: 1})
		v.do(increment)
		time.Sleep(10 * time.Minute)
		mustEqual(t, "at 10 min", code(recently), 200)
		time.Sleep(time.Millisecond)
		mustEqual(t, "after 10 min", code(recently), 401)
		v.do(renew)
		mustEqual(t, "renewed, not authenticated", code(recently), 401)
		mustEqual(t, "one factor", code(twoFactors), 401)
		mustEqual(t, "low level", code(high), 401)
		old := v.info()
		as(session.Login{Methods: []string{"otp", "pwd"}, Level: 2})
		mustEqual(t, "authenticated again", code(recently), 200)
		mustEqual(t, "two factors", code(twoFactors), 200)
		mustEqual(t, "high level", code(high), 200)
		mustEqual(t, "n", v.count(), 1)
		if i := v.info(); !i.Deadline.Equal(old.Deadline.Add(10*time.Minute+time.Millisecond)) ||
			i.Handle == old.Handle {
			t.Errorf("the second sign-in did not start both time limits again: %+v", i)
		}
		as(session.Login{Methods: []string{"pwd"}, Level: 1})
		mustEqual(t, "low level again", code(high), 401)
	})
}

// TestRouteChallengeSaysWhatIsMissing: WWW-Authenticate says what is missing and nothing else (RFC
// 9470).
func TestRouteChallengeSaysWhatIsMissing(t *testing.T) {
	const prefix = `Bearer realm="session"`
	const insufficient, old, low = prefix + `, error="insufficient_user_authentication", error_description="`,
		`More recent authentication is required"`, `A different authentication level is required"`
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.visitor()
		v.do(func(ses *session.Session) error {
			return ses.SignIn(t.Context(), session.Login{User: "ada", Methods: []string{"pwd"}, Level: 1})
		})
		time.Sleep(10 * time.Minute)
		for _, tt := range []struct {
			name, want, log string
			route           session.Route
		}{
			{"enough", "", "", session.Route{SignedIn: true, MaxAuthAge: 10 * time.Minute, MinLevel: 1,
				AuthMethods: []string{"pwd"}}},
			{"old", insufficient + old + `, max_age="300"`, "one no older than 5m0s",
				session.Route{MaxAuthAge: 5 * time.Minute, MinLevel: 1}},
			{"low", insufficient + low + `, acr_values="2"`, "level 2", session.Route{MaxAuthAge: time.Hour, MinLevel: 2}},
			{"old and low", insufficient + old + `, max_age="0", acr_values="3"`, "level 3",
				session.Route{MaxAuthAge: time.Millisecond, MinLevel: 3}},
			{"method", insufficient + low, "otp", session.Route{AuthMethods: []string{"pwd", "otp"}}},
			{"a negative age", insufficient + old + `, max_age="0"`, "no older than -1h0m0s",
				session.Route{MaxAuthAge: -time.Hour}},
		} {
			w := v.handle(tt.route.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
			status := 401
			if tt.want == "" {
				status = 200
			}
			mustAnswer(t, w, status)
			mustEqual(t, tt.name, w.Result().Header.Get("WWW-Authenticate"), tt.want)
			if !strings.Contains(s.log.String(), tt.log) {
				t.Errorf("%s: the log does not say what is missing: %s", tt.name, s.log)
			}
		}
		w := s.visitor().handle(session.Route{SignedIn: true, MaxAuthAge: 1}.Handler(http.NotFoundHandler()))
		mustEqual(t, "not signed in", w.Result().Header.Get("WWW-Authenticate"), prefix)
	})
}

// TestAuthenticationAgesDuringALongRequest: Check compares with the time of the call, not with the
// beginning of the request.
func TestAuthenticationAgesDuringALongRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.visitor()
		v.do(signIn("ada"))
		recently := session.Route{MaxAuthAge: 10 * time.Minute}
		w := v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			time.Sleep(10 * time.Minute)
			if err := recently.Check(r.Context()); err != nil {
				t.Errorf("after 10 min: %v", err)
			}
			time.Sleep(time.Millisecond)
			if err := recently.Check(r.Context()); !errors.Is(err, session.ErrNotFresh) {
				t.Errorf("later: %v", err)
			}
			if err := ses.SignIn(r.Context(), session.Login{User: "ada"}); err != nil {
				t.Error(err)
			}
			return recently.Check(r.Context()) // authenticated again in this very request
		})
		mustEqual(t, "status", w.Code, 200)
	})
}

// TestRouteDownDecidesWhenTheStoreIsDown: the route is refused, or served as to an unknown visitor,
// read-only and without a cookie.
func TestRouteDownDecidesWhenTheStoreIsDown(t *testing.T) {
	read := readCount
	write := increment
	for _, tt := range []struct {
		name   string
		route  session.Route
		f      func(ses *session.Session) error
		status int
	}{
		{"refuse, read", session.Route{}, read, 503},
		{"read-only, no copy", session.Route{Down: session.DownReadOnly}, read, 503},
		{"anonymous, read", session.Route{Down: session.DownAnonymous}, read, 200},
		{"anonymous, write", session.Route{Down: session.DownAnonymous}, write, 503},
		{"anonymous, renew", session.Route{Down: session.DownAnonymous}, renew, 503},
		{"anonymous, write when the store is back", session.Route{Down: session.DownAnonymous}, nil, 503},
		{"anonymous, signed in", session.Route{Down: session.DownAnonymous, SignedIn: true}, read, 401},
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		s.store.down()
		w := v.serveRoute(tt.route, func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			if !ses.Degraded() || n.Get(ses) != 0 || ses.User() != "" || ses.Info().Handle != "" {
				t.Errorf("%s: the session is not degraded, or not empty", tt.name)
			}
			if tt.f == nil {
				s.store.up()
				return write(ses)
			}
			return tt.f(ses)
		})
		if w.Code != tt.status || len(cookies(w)) != 0 || strings.Contains(w.Body.String(), "redis") {
			t.Errorf("%s: %d, Set-Cookie %q, %q; want %d", tt.name, w.Code, cookies(w), w.Body, tt.status)
		}
		s.store.up()
		mustEqual(t, tt.name+": n", v.count(), 1)
		if !strings.Contains(s.log.String(), "redis-7.internal") {
			t.Errorf("%s: the log does not have the cause: %s", tt.name, s.log)
		}
	}
}

// TestInnermostRouteDecidesWhenTheStoreIsDown: also if an outer handler has read the session.
func TestInnermostRouteDecidesWhenTheStoreIsDown(t *testing.T) {
	page := session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error { return nil })
	look := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			session.From(r.Context())
			next.ServeHTTP(w, r)
		})
	}
	anonymous, refuse := session.Route{Down: session.DownAnonymous}, session.Route{}
	for _, tt := range []struct {
		name   string
		h      http.Handler
		status int
	}{
		{"anonymous in refuse", look(anonymous.Handler(page)), 200},
		{"refuse in anonymous", anonymous.Handler(look(refuse.Handler(page))), 503},
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		s.store.down()
		if w := v.handle(tt.h); w.Code != tt.status {
			t.Errorf("%s: %d, want %d", tt.name, w.Code, tt.status)
		}
	}
}

// TestInnerRouteRefusesCopies: a route with DownRefuse inside one with DownReadOnly serves no copy.
func TestInnerRouteRefusesCopies(t *testing.T) {
	store := newCachingStore(newFaultyStore())
	t.Cleanup(func() { store.Close() })
	s := store.newSite(t, session.Config{})
	v := s.mustSignIn("ada")
	v.count()
	store.down()
	page := session.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error { return nil })
	outer := session.Route{SignedIn: true, Down: session.DownReadOnly}
	if w := v.handle(outer.Handler(page)); w.Code != 200 {
		t.Errorf("the outer route alone: %d, want 200 from the copy", w.Code)
	}
	if w := v.handle(outer.Handler(session.Route{SignedIn: true}.Handler(page))); w.Code != 503 {
		t.Errorf("with the inner route: %d, want 503", w.Code)
	}
}

// TestRefusedWriteStaysRefusedWhenTheStoreIsBack: a change that was refused while the store was
// down is not stored by a nested route.
func TestRefusedWriteStaysRefusedWhenTheStoreIsBack(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	s.store.down()
	w := v.serveRoute(session.Route{Down: session.DownAnonymous},
		func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			s.store.up()
			session.Route{}.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
			return nil
		})
	if w.Code != 503 || v.count() != 1 {
		t.Errorf("%d, n = %d; want 503 and 1", w.Code, v.count())
	}
}

// TestFreshRouteReadsTheStoreAfterAChange: changes that the request has buffered are no reason to
// use a copy.
func TestFreshRouteReadsTheStoreAfterAChange(t *testing.T) {
	store := newCachingStore(newFaultyStore())
	t.Cleanup(func() { store.Close() })
	s := store.newSite(t, session.Config{})
	for name, revoked := range map[string]bool{"revoked": true, "changed": false} {
		v := s.mustSignIn("ada")
		v.count()
		old := store.newSite(t, session.Config{})
		v.do(increment)
		if revoked {
			if _, err := s.m.RevokeUser(t.Context(), "ada"); err != nil {
				t.Fatal(err)
			}
		}
		store.setStale(true)
		ran := false
		w := v.at(old).serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 10)
			fresh := session.Route{SignedIn: true, Fresh: true}
			fresh.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error {
				ran = true
				mustEqual(t, name, n.Get(ses), 11)
				return nil
			})).ServeHTTP(w, r)
			return nil
		})
		if ran == revoked || revoked != (w.Code != 200) {
			t.Errorf("%s: %d, the handler ran %v", name, w.Code, ran)
		}
		store.setStale(false)
	}
}

// TestFreshRouteSeesOtherRequests: a fresh route reads the store again.
func TestFreshRouteSeesOtherRequests(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		v.tab().do(increment)
		mustEqual(t, "before", n.Get(ses), 1)
		session.Route{Fresh: true}.Handler(session.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				mustEqual(t, "fresh", n.Get(ses), 2)
				return nil
			})).ServeHTTP(w, r)
		return nil
	})
}

// TestFreshRouteStaysFresh: Check of another Route does not allow copies again.
func TestFreshRouteStaysFresh(t *testing.T) {
	store := newCachingStore(newFaultyStore())
	t.Cleanup(func() { store.Close() })
	s := store.newSite(t, session.Config{})
	v := s.known()
	v.count()
	old := store.newSite(t, session.Config{})
	v.do(increment)
	store.setStale(true)
	v.at(old).serveRoute(session.Route{Fresh: true},
		func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
			mustEqual(t, "n", n.Get(ses), 2)
			v.tab().do(increment)
			_ = session.Route{SignedIn: true}.Check(r.Context())
			if err := ses.Reload(r.Context()); err != nil {
				return err
			}
			mustEqual(t, "n after Check", n.Get(ses), 3)
			return nil
		})
}
