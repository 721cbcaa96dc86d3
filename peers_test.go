package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
)

// The defects that were reproduced in other session libraries, each under its name.

func TestTwoRequestsThatWriteDifferentFieldsBothTakeEffect(t *testing.T) {
	v := newSite(t, session.Config{}).known()
	v.do(func(s *session.Session) error {
		n.Get(s)
		v.also().do(func(s *session.Session) error { theme.Set(s, "dark"); return nil })
		cart.Add(s, "tea", 1)
		return nil
	})
	v.inRequest(func(_ context.Context, s *session.Session) {
		want(t, "both", fmt.Sprint(theme.Get(s), cart.Get(s, "tea"), n.Get(s)), "dark1 1")
	})
}

func TestNoIncrementIsLost(t *testing.T) {
	v := newSite(t, session.Config{}).known()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 25 {
				v.also().do(func(s *session.Session) error { n.Add(s, 1); return nil })
			}
		})
	}
	wg.Wait()
	want(t, "n", v.count(), 401)
}

func TestReadOnlyRequestDoesNotOverwriteAConcurrentWrite(t *testing.T) {
	s := newSite(t, session.Config{IdleTimeout: time.Minute})
	v := s.known()
	v.do(func(ses *session.Session) error {
		v.also().do(func(s *session.Session) error { n.Add(s, 1); return nil })
		want(t, "the view", n.Get(ses), 1)
		return nil
	})
	want(t, "n", v.count(), 2)
}

func TestReadOnlyRequestDoesNotWrite(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.count()
	want(t, "writes", s.store.applies.Load()+s.store.touches.Load()+s.store.ends.Load(), 0)
	want(t, "round trips", s.store.loads.Load(), 1)
}

func TestSlowRequestDoesNotUndoSignOut(t *testing.T) {
	for name, f := range map[string]func(s *session.Session){"reader": func(s *session.Session) { n.Get(s) }, "writer": addOne} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{})
			v := s.known()
			old := v.also()
			time.Sleep(time.Hour) // a touch is due
			v.also().do(func(ses *session.Session) error { v.do(signOut); f(ses); return nil })
			time.Sleep(time.Second)
			if old.count() != 0 || s.store.Len() != 0 {
				t.Errorf("%s: the session is back", name)
			}
		})
	}
}

func TestUnknownTokenIsNotAdopted(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.also().do(signOut)
	dead := v.cookie
	for range 2 { // nor is it an error on every request until the cookie is gone
		w := v.do(func(s *session.Session) error { return nil })
		want(t, "status", w.Code, 200)
	}
	v.do(func(s *session.Session) error { n.Add(s, 1); return nil })
	if v.cookie == dead {
		t.Error("a dead token is revived")
	}
}

func TestNoWildcardsInTokens(t *testing.T) {
	s := newSite(t, session.Config{})
	other := s.known()
	v := s.visitor()
	v.cookie = "__Host-session=*"
	v.do(signOut)
	want(t, "another visitor's n", other.count(), 1)
}

func TestStoreErrorIsNotAnEmptySessionThatOverwritesTheRealOne(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.store.down()
		ses, err := session.From(r.Context())
		if ses != nil || !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%v, %v", ses, err)
		}
		s.store.up()
	}))
	want(t, "n", v.count(), 1)
}

func TestAFailedCommitLocksNothing(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	s.store.fail("apply", errDown)
	v.do(func(ses *session.Session) error {
		n.Add(ses, 1)
		ses.Commit(t.Context())
		n.Add(ses, 1) // hung, in a peer
		n.Get(ses)
		return ses.Commit(t.Context())
	})
	s.store.up()
	v.do(func(s *session.Session) error { n.Add(s, 1); return nil })
	want(t, "n", v.count(), 2)
}

func TestCommitAfterDeadlineStoresNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{Lifetime: time.Second, IdleTimeout: time.Second})
		v := s.known()
		w := v.also().do(func(s *session.Session) error {
			time.Sleep(2 * time.Second)
			n.Add(s, 1)
			return nil
		})
		if wantAnswer(t, w, 409); len(cookies(w)) != 0 || v.count() != 0 {
			t.Errorf("Set-Cookie %q, n = %d: a session without an end", cookies(w), v.count())
		}
	})
}

func TestRenewalAndClearKeepTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{Lifetime: time.Hour})
		v := s.known()
		for range 6 {
			time.Sleep(10*time.Minute - time.Millisecond)
			v.do(func(s *session.Session) error { s.Clear(); n.Add(s, 1); return renew(s) })
			want(t, "n", v.count(), 1)
		}
		time.Sleep(6 * time.Millisecond)
		want(t, "n after the deadline", v.count(), 0)
	})
}

func TestSessionCookieDoesNotDeleteTheSession(t *testing.T) { // Max-Age 0 did
	s := newSite(t, session.Config{Cookie: session.Cookie{Persistent: false}})
	v := s.visitor()
	w := v.do(func(s *session.Session) error { n.Add(s, 1); return nil })
	if strings.Contains(cookies(w)[0], "Max-Age") || strings.Contains(cookies(w)[0], "Expires") {
		t.Errorf("Set-Cookie %q", cookies(w))
	}
	want(t, "n", v.count(), 1)
}

func TestFourKilobytesAreNoLimit(t *testing.T) {
	v := newSite(t, session.Config{}).visitor()
	v.inRequest(func(_ context.Context, s *session.Session) { theme.Set(s, strings.Repeat("x", 60_000)) })
	v.inRequest(func(_ context.Context, s *session.Session) { want(t, "length", len(theme.Get(s)), 60_000) })
}
