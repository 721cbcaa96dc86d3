package session_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
)

// TestRoute: who may go on.
func TestRoute(t *testing.T) {
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
			{"anything", session.Route{}, 200, 200, 200},
			{"fresh", session.Route{Fresh: true}, 200, 200, 200},
			{"user", session.Route{SignedIn: true}, 401, 401, 200},
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
				w := who.v.handle(tt.route.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran = true })))
				if w.Code != who.want || ran != (who.want == 200) {
					t.Errorf("%s: %d, ran: %v, want %d", tt.name, w.Code, ran, who.want)
				}
			}
		}
		ada.do(func(ses *session.Session) error {
			if i := ses.Info(); ses.User() != "ada" || i.User != "ada" || i.Level != 2 || len(i.Methods) != 2 || i.Deadline.Sub(i.Created) != 24*time.Hour {
				t.Errorf("%+v", i)
			}
			return nil
		})
		for err, is := range map[error]session.Route{session.ErrNotSignedIn: {SignedIn: true, Fresh: true}, session.ErrNoManager: {}} {
			r := anonymous.site.m.Load(t.Context(), http.Header{"Cookie": {anonymous.cookie}})
			if err == session.ErrNoManager {
				r = t.Context()
			}
			if got := is.Check(r); !errors.Is(got, err) {
				t.Errorf("Check: %v, want %v", got, err)
			}
		}
	})
}

// TestRouteWhenTheStoreIsDown: refuse, or serve as to an unknown visitor, read-only and without a cookie.
func TestRouteWhenTheStoreIsDown(t *testing.T) {
	read := func(ses *session.Session) error { n.Get(ses); return nil }
	write := func(ses *session.Session) error { n.Add(ses, 1); return nil }
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
		w := v.handle(tt.route.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			if !ses.Degraded() || n.Get(ses) != 0 || ses.User() != "" || ses.Info().Handle != "" {
				t.Errorf("%s: not degraded, or not empty", tt.name)
			}
			if tt.f == nil {
				s.store.up()
				return write(ses)
			}
			return tt.f(ses)
		})))
		if w.Code != tt.status || len(cookies(w)) != 0 || strings.Contains(w.Body.String(), "redis") {
			t.Errorf("%s: %d, Set-Cookie %q, %q; want %d", tt.name, w.Code, cookies(w), w.Body, tt.status)
		}
		s.store.up()
		want(t, tt.name+": n", v.count(), 1)
		if !strings.Contains(s.log.String(), "redis-7.internal") {
			t.Errorf("%s: the log does not say why: %s", tt.name, s.log)
		}
	}
}

// TestNestedRoutes: the innermost decides, whatever was read before.
func TestNestedRoutes(t *testing.T) {
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

// TestStrictRouteInReadOnly: a route that refuses copies does so inside one that does not.
func TestStrictRouteInReadOnly(t *testing.T) {
	store := newCopying(newFaulty())
	t.Cleanup(func() { store.Close() })
	s := store.site(t, session.Config{})
	v := s.user("ada")
	v.count()
	store.down()
	page := session.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error { return nil })
	outer := session.Route{SignedIn: true, Down: session.DownReadOnly}
	if w := v.handle(outer.Handler(page)); w.Code != 200 {
		t.Errorf("the outer route alone: %d, want 200 by the copy", w.Code)
	}
	if w := v.handle(outer.Handler(session.Route{SignedIn: true}.Handler(page))); w.Code != 503 {
		t.Errorf("with one that refuses: %d, want 503", w.Code)
	}
}

// TestRefusedWriteInNestedRoute: a store that is back does not make good what was refused while it was down.
func TestRefusedWriteInNestedRoute(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	s.store.down()
	w := v.handle(session.Route{Down: session.DownAnonymous}.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		n.Add(ses, 1)
		s.store.up()
		session.Route{}.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		return nil
	})))
	if w.Code != 503 || v.count() != 1 {
		t.Errorf("%d, n = %d; want 503 and 1", w.Code, v.count())
	}
}

// TestFreshRouteAfterChange: what the request has changed by then is no reason not to ask the store.
func TestFreshRouteAfterChange(t *testing.T) {
	store := newCopying(newFaulty())
	t.Cleanup(func() { store.Close() })
	s := store.site(t, session.Config{})
	for name, revoked := range map[string]bool{"revoked": true, "changed": false} {
		v := s.user("ada")
		v.count()
		old := store.site(t, session.Config{})
		v.do(func(ses *session.Session) error { n.Add(ses, 1); return nil })
		if revoked {
			if _, err := s.m.RevokeUser(t.Context(), "ada"); err != nil {
				t.Fatal(err)
			}
		}
		store.mu.Lock()
		store.old = true
		store.mu.Unlock()
		ran := false
		w := v.at(old).handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 10)
			session.Route{SignedIn: true, Fresh: true}.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error {
				ran = true
				want(t, name, n.Get(ses), 11)
				return nil
			})).ServeHTTP(w, r)
			return nil
		}))
		if ran == revoked || revoked != (w.Code != 200) {
			t.Errorf("%s: %d, the handler ran %v", name, w.Code, ran)
		}
		store.mu.Lock()
		store.old = false
		store.mu.Unlock()
	}
}

// TestFreshRouteReadsAgain: what another request did a moment ago is seen.
func TestFreshRouteReadsAgain(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		v.also().do(func(s *session.Session) error { n.Add(s, 1); return nil })
		want(t, "before", n.Get(ses), 1)
		session.Route{Fresh: true}.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			want(t, "fresh", n.Get(ses), 2)
			return nil
		})).ServeHTTP(w, r)
		return nil
	}))
}

// TestFreshStays: a question with another Route does not bring copies back.
func TestFreshStays(t *testing.T) {
	store := newCopying(newFaulty())
	t.Cleanup(func() { store.Close() })
	s := store.site(t, session.Config{})
	v := s.known()
	v.count()
	old := store.site(t, session.Config{})
	v.do(func(ses *session.Session) error { n.Add(ses, 1); return nil })
	store.mu.Lock()
	store.old = true
	store.mu.Unlock()
	v.at(old).handle(session.Route{Fresh: true}.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
		want(t, "n", n.Get(ses), 2)
		v.also().do(func(ses *session.Session) error { n.Add(ses, 1); return nil })
		_ = session.Route{SignedIn: true}.Check(r.Context())
		if err := ses.Reload(r.Context()); err != nil {
			return err
		}
		want(t, "n after a question", n.Get(ses), 3)
		return nil
	})))
}
