package session_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
)

// TestRouteContextEndsAResponse: the context is cancelled as soon as the user may not have the
// response any more, and its cause says why.
func TestRouteContextEndsAResponse(t *testing.T) {
	for _, tt := range []struct {
		name  string
		route session.Route
		until func(s *site, v *visitor)
		want  error
	}{
		{"sign-out", session.Route{SignedIn: true}, func(_ *site, v *visitor) { v.tab().do(signOut) }, session.ErrEnded},
		{"revocation", session.Route{SignedIn: true},
			func(s *site, _ *visitor) { _, _ = s.m.RevokeUser(context.Background(), "ada") }, session.ErrEnded},
		{"revocation of all", session.Route{}, func(s *site, _ *visitor) { _ = s.m.RevokeAll(context.Background()) }, session.ErrEnded},
		{"expiry", session.Route{SignedIn: true}, func(*site, *visitor) { time.Sleep(2 * time.Hour) }, session.ErrEnded},
		{"an authentication that gets too old", session.Route{MaxAuthAge: 10 * time.Minute},
			func(*site, *visitor) { time.Sleep(10*time.Minute + time.Millisecond) }, session.ErrNotFresh},
		{"a right that was never there", session.Route{MinLevel: 2}, func(*site, *visitor) {}, session.ErrNotFresh},
		{"an outage", session.Route{SignedIn: true}, func(s *site, v *visitor) {
			direct := *s
			direct.m, _ = session.New(s.store.Store, session.Config{})
			s.store.down()
			v.at(&direct).do(increment)
			time.Sleep(32 * time.Second)
		}, session.ErrUnavailable},
		{"an authentication that gets too old in an outage", session.Route{MaxAuthAge: 10 * time.Second}, func(s *site, v *visitor) {
			direct := *s
			direct.m, _ = session.New(s.store.Store, session.Config{})
			s.store.down()
			v.at(&direct).do(increment)
			time.Sleep(11 * time.Second)
		}, session.ErrNotFresh},
		{"a change", session.Route{SignedIn: true, MaxAuthAge: time.Hour}, func(_ *site, v *visitor) {
			v.tab().do(increment)
			time.Sleep(30 * time.Minute)
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newSite(t, session.Config{})
				v := s.mustSignIn("ada")
				v.tab().serve(func(_ http.ResponseWriter, r *http.Request, _ *session.Session) error {
					ctx, stop := tt.route.Context(r.Context())
					defer stop()
					tt.until(s, v)
					time.Sleep(2 * time.Millisecond)
					synctest.Wait()
					if got := context.Cause(ctx); !errors.Is(got, tt.want) {
						t.Errorf("the cause is %v, want %v", got, tt.want)
					}
					return nil
				})
			})
		})
	}
}

// TestRouteContextWatchesACopy: a response that was opened from a copy, while the store was down,
// ends with the session, too.
func TestRouteContextWatchesACopy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newCachingStore(newFaultyStore())
		t.Cleanup(func() { store.Close() })
		s := store.newSite(t, session.Config{})
		v := s.mustSignIn("ada")
		v.do(readCount)
		store.down()
		route := session.Route{SignedIn: true, Down: session.DownReadOnly}
		v.tab().serveRoute(route, func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
			ctx, stop := route.Context(r.Context())
			defer stop()
			time.Sleep(5 * time.Second)
			if ctx.Err() != nil || !ses.Degraded() {
				t.Errorf("in the outage: %v", context.Cause(ctx))
			}
			store.up()
			v.tab().do(signOut)
			time.Sleep(time.Second)
			if !errors.Is(context.Cause(ctx), session.ErrEnded) {
				t.Errorf("after the sign-out: %v", context.Cause(ctx))
			}
			return nil
		})
	})
}

// TestRouteContextOfAVisitorWithoutASession: there is nothing that can end.
func TestRouteContextOfAVisitorWithoutASession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		s.visitor().serve(func(_ http.ResponseWriter, r *http.Request, _ *session.Session) error {
			open, stop := session.Route{}.Context(r.Context())
			members, stopMembers := session.Route{SignedIn: true}.Context(r.Context())
			defer stopMembers()
			if open.Err() != nil || !errors.Is(context.Cause(members), session.ErrNotSignedIn) {
				t.Errorf("open: %v, members: %v", open.Err(), context.Cause(members))
			}
			stop()
			if open.Err() == nil {
				t.Error("stop did not end the context")
			}
			return nil
		})
	})
}

// TestRouteContextOutlivesAPanicOfTheStore: a panic counts as no answer. The goroutine that watches
// must not end the process.
func TestRouteContextOutlivesAPanicOfTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{WatchTimeout: 10 * time.Second})
		v := s.mustSignIn("ada")
		v.tab().serve(func(_ http.ResponseWriter, r *http.Request, _ *session.Session) error {
			ctx, stop := session.Route{SignedIn: true}.Context(r.Context())
			defer stop()
			direct := *s
			direct.m, _ = session.New(s.store.Store, session.Config{})
			s.store.set(func(string) error { panic("a defect") })
			v.at(&direct).do(increment)
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if ctx.Err() != nil {
				t.Errorf("ended: %v", context.Cause(ctx))
			}
			time.Sleep(6 * time.Second)
			if !errors.Is(context.Cause(ctx), session.ErrUnavailable) {
				t.Errorf("the cause is %v", context.Cause(ctx))
			}
			s.store.up()
			return nil
		})
		if !strings.Contains(s.log.String(), "the store panicked") {
			t.Error("nothing in the log")
		}
	})
}
