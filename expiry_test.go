package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// TestReadingKeepsASessionAlive: until the deadline, with at most one write a minute.
func TestReadingKeepsASessionAlive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{}) // IdleTimeout 2 h, Lifetime 24 h
		v, idle := s.known(), s.known()
		for i := range 24*60*4 - 1 { // every 15 s
			time.Sleep(15 * time.Second)
			synctest.Wait()
			if v.count() != 1 {
				t.Fatalf("ended after %v of use", time.Duration(i+1)*15*time.Second)
			}
		}
		synctest.Wait()
		if touches := s.store.touches.Load(); touches < 1000 || touches > 24*60 {
			t.Errorf("%d writes in 24 h, want at most one a minute", touches)
		}
		if idle.count() != 0 {
			t.Error("the unused session has not expired")
		}
		time.Sleep(16 * time.Second)
		if v.count() != 0 {
			t.Error("the session outlives its deadline")
		}
	})
}

// TestIdleSessionExpires: each use extends the session by IdleTimeout.
func TestIdleSessionExpires(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{IdleTimeout: time.Hour})
		v := s.known()
		time.Sleep(time.Hour - time.Millisecond)
		if v.count() != 1 {
			t.Error("ended too early")
		}
		synctest.Wait() // the use is written
		time.Sleep(time.Hour - time.Minute)
		if v.count() != 1 {
			t.Error("reading did not extend the session")
		}
		synctest.Wait()
		time.Sleep(time.Hour)
		if v.count() != 0 {
			t.Error("not expired after an idle hour")
		}
	})
}

// TestUnusedSessionIsNotTouched: a request that does not call From costs no round trip.
func TestUnusedSessionIsNotTouched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		time.Sleep(time.Hour)
		before := s.store.loads.Load()
		v.handle(http.NotFoundHandler())
		synctest.Wait()
		if s.store.loads.Load() != before || s.store.touches.Load() != 0 {
			t.Error("the request costs a round trip")
		}
	})
}

// TestFailedTouchFailsNoRead: a failed touch neither fails nor delays a request.
func TestFailedTouchFailsNoRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		s.store.fail("touch", errDown)
		time.Sleep(time.Hour)
		begin := time.Now()
		if v.count() != 1 || time.Since(begin) != 0 {
			t.Errorf("it took %v", time.Since(begin))
		}
		synctest.Wait()
		if log := s.log.String(); s.store.touches.Load() != 1 || !strings.Contains(log, "level=WARN") ||
			!strings.Contains(log, "not written to the store") {
			t.Errorf("%d touches; log %s", s.store.touches.Load(), log)
		}
	})
}

// TestHangingTouchesAreBounded: a store that does not answer touches delays no request. At most 64
// goroutines wait for it.
func TestHangingTouchesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		hang := make(chan struct{})
		s.store.set(func(call string) error {
			if call == "touch" {
				<-hang
			}
			return nil
		})
		time.Sleep(time.Hour)
		for range 1000 {
			if v.count() != 1 {
				t.Fatal("a read failed")
			}
		}
		synctest.Wait()
		if got := s.store.touches.Load(); got > 64 {
			t.Errorf("%d touches at a time", got)
		}
		close(hang)
		synctest.Wait()
	})
}

// TestReloadCountsAsUse: Reload extends the session during a stream.
func TestReloadCountsAsUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{IdleTimeout: time.Hour})
		v := s.known()
		v.do(func(ses *session.Session) error {
			for range 6 {
				time.Sleep(50 * time.Minute)
				if err := ses.Reload(t.Context()); err != nil {
					t.Fatalf("Reload: %v", err)
				}
			}
			return nil
		})
		if v.count() != 1 {
			t.Error("the session expired although the stream used it")
		}
	})
}

// TestPassiveRouteDoesNotExtendTheSession: a poll never extends the session. A change does, and so
// does a route that is not passive.
func TestPassiveRouteDoesNotExtendTheSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{IdleTimeout: time.Hour})
		v := s.known()
		left := func(change bool) (left time.Duration) {
			t.Helper()
			poll := session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
				if err := ses.Reload(r.Context()); err != nil {
					return err
				}
				if change {
					n.Add(ses, 1)
				}
				if i := ses.Info(); !i.Expires.IsZero() {
					left = time.Until(i.Expires)
				}
				return nil
			})
			mustEqual(t, "status", v.handle(session.Route{Passive: true}.Handler(poll)).Code, 200)
			synctest.Wait()
			return left
		}
		for i := range 59 {
			time.Sleep(time.Minute)
			mustEqual(t, "time left", left(false), time.Duration(59-i)*time.Minute)
		}
		mustEqual(t, "uses written", s.store.touches.Load(), 0)
		left(true)
		mustEqual(t, "time left after a change", left(false), time.Hour)
		time.Sleep(time.Hour - time.Minute)
		mustEqual(t, "n, read by a route that is not passive", v.count(), 2)
		synctest.Wait()
		mustEqual(t, "time left after that", left(false), time.Hour)
		for range 60 {
			time.Sleep(time.Minute)
			left(false)
		}
		mustEqual(t, "n after an hour of polling", v.count(), 0)
	})
}

// TestPassiveRouteDoesNotRotate: a poll leaves an old token in place, because the write of a new
// one would count as a use. Check of another Route in the handler does not change that.
func TestPassiveRouteDoesNotRotate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{IdleTimeout: 10 * time.Minute, RotateEvery: 5 * time.Minute})
		v := s.known()
		poll := session.Route{Passive: true}.Handler(session.HandlerFunc(
			func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
				if err := ses.Reload(r.Context()); err != nil {
					return err
				}
				_ = session.Route{SignedIn: true}.Check(r.Context())
				n.Get(ses)
				return nil
			}))
		for range 10 {
			time.Sleep(time.Minute)
			if w := v.handle(poll); len(cookies(w)) != 0 {
				t.Fatalf("Set-Cookie %q", cookies(w))
			}
			synctest.Wait()
		}
		mustEqual(t, "n after ten minutes of polling", v.count(), 0)
		mustEqual(t, "uses written", s.store.touches.Load(), 0)
	})
}

// TestCommitAfterDeadlineStoresNothing: in another session library the late write made a session
// without an end.
func TestCommitAfterDeadlineStoresNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{Lifetime: time.Second, IdleTimeout: time.Second})
		v := s.known()
		w := v.tab().do(func(s *session.Session) error {
			time.Sleep(2 * time.Second)
			n.Add(s, 1)
			return nil
		})
		if mustAnswer(t, w, 409); len(cookies(w)) != 0 || v.count() != 0 {
			t.Errorf("Set-Cookie %q, n = %d: the commit made a session", cookies(w), v.count())
		}
	})
}

// TestRenewalAndClearKeepTheDeadline: neither moves the deadline.
func TestRenewalAndClearKeepTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{Lifetime: time.Hour})
		v := s.known()
		for range 6 {
			time.Sleep(10*time.Minute - time.Millisecond)
			v.do(func(s *session.Session) error { s.Clear(); n.Add(s, 1); return renew(s) })
			mustEqual(t, "n", v.count(), 1)
		}
		time.Sleep(6 * time.Millisecond)
		mustEqual(t, "n after the deadline", v.count(), 0)
	})
}

// TestLoginLifetimeEndsTheSessionEarly: use and renewal do not extend it. The next sign-in has the
// full lifetime.
func TestLoginLifetimeEndsTheSessionEarly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{Cookie: session.Cookie{Persistent: true}})
		v := s.visitor()
		short := func(ses *session.Session) error {
			return ses.SignIn(t.Context(), session.Login{User: "ada", Lifetime: 10 * time.Minute})
		}
		w := v.do(short)
		if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge != 600 {
			t.Errorf("Set-Cookie %q, want Max-Age 600", cookies(w))
		}
		for range 9 {
			time.Sleep(time.Minute)
			mustEqual(t, "user", v.who(), "ada")
			synctest.Wait() // the use is written
		}
		v.do(renew)
		time.Sleep(time.Minute - time.Millisecond)
		mustEqual(t, "user just before the end", v.who(), "ada")
		time.Sleep(time.Millisecond)
		mustEqual(t, "user after it", v.who(), "")
		v.do(short)
		v.do(signIn("ada"))
		time.Sleep(time.Hour)
		mustEqual(t, "user who signed in again", v.who(), "ada")
	})
}

// TestRememberExtendsOneSession: the session lasts longer and its cookie outlives the browser.
// Other sessions keep their limits.
func TestRememberExtendsOneSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{Lifetime: time.Hour, IdleTimeout: time.Minute, MaxRemember: 48 * time.Hour})
		remembered, other := s.visitor(), s.mustSignIn("ada")
		w := remembered.do(func(ses *session.Session) error {
			return ses.SignIn(t.Context(), session.Login{User: "ada", Remember: 48 * time.Hour})
		})
		if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge != 48*3600 {
			t.Errorf("Set-Cookie %q", cookies(w))
		}
		time.Sleep(time.Minute)
		if other.who() != "" {
			t.Error("the other session outlives the idle limit")
		}
		time.Sleep(24*time.Hour - time.Minute)
		w = remembered.do(renew)
		if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge != 24*3600 {
			t.Errorf("renewed: Set-Cookie %q", cookies(w))
		}
		time.Sleep(24*time.Hour - time.Millisecond)
		mustEqual(t, "user", remembered.who(), "ada")
		time.Sleep(time.Millisecond)
		mustEqual(t, "user after the deadline", remembered.who(), "")
	})
	s := newSite(t, session.Config{})
	w := s.visitor().do(func(ses *session.Session) error {
		return ses.SignIn(t.Context(), session.Login{User: "ada", Remember: time.Hour})
	})
	mustAnswer(t, w, 500)
	if w := s.mustSignIn("ada").do(renew); strings.Contains(cookies(w)[0], "Max-Age") {
		t.Errorf("not remembered: Set-Cookie %q", cookies(w))
	}
}

// TestExpiryOfSignedInSessionsIsReported: the event names the user. Expiry of an anonymous session
// is not reported.
func TestExpiryOfSignedInSessionsIsReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newSiteWithEvents(t, session.Config{IdleTimeout: time.Hour})
		s.known()
		handle := s.mustSignIn("ada").info().Handle
		s.mustSignIn("bob").do(signOut)
		l.drain()
		end := time.Now().Add(time.Hour)
		time.Sleep(time.Hour - time.Millisecond)
		l.mustReport(t, "a millisecond before the end")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(l.events) != 1 || !l.events[0].Time.Equal(end) {
			t.Errorf("events %+v, want the end at %v", l.events, end)
		}
		l.mustReport(t, "after it", "expired "+handle+" ada")
	})
}

// expiryWithoutRecord reports expired sessions without their records, as a store may do.
type expiryWithoutRecord struct{ *faultyStore }

func (f expiryWithoutRecord) OnExpiry(report func(driver.ExpiredSession)) {
	f.faultyStore.OnExpiry(func(x driver.ExpiredSession) { x.Record = nil; report(x) })
}

// TestExpiryNamesTheUserWithoutARecord: the store names the owner, and a Manager that has seen the
// user knows the name.
func TestExpiryNamesTheUserWithoutARecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		var logs [3]eventLog
		var managers [3]*session.Manager
		for i := range managers {
			var err error
			if managers[i], err = session.New(expiryWithoutRecord{s.store},
				session.Config{OnEvent: logs[i].record}); err != nil {
				t.Fatal(err)
			}
		}
		s.m = managers[0]
		v := s.mustSignIn("ada")
		handle := v.info().Handle
		other := v.tab()
		other.site = &site{t: t, store: s.store, m: managers[1], log: s.log}
		mustEqual(t, "the user elsewhere", other.who(), "ada")
		logs[0].drain()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		logs[0].mustReport(t, "the node of the sign-in", "expired "+handle+" ada")
		logs[1].mustReport(t, "a node that has seen the session", "expired "+handle+" ada")
		logs[2].mustReport(t, "a node that has not seen the user", "expired "+handle)
	})
}

// formPage is a page with a form: it stores a session for the CSRF token, and changes it again
// while it writes the page.
func formPage(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
	if _, err := ses.CSRFToken(r.Context()); err != nil {
		return err
	}
	theme.Set(ses, "dark")
	if _, err := w.Write([]byte("<form>")); err != nil {
		return err
	}
	n.Add(ses, 1)
	return nil
}

// TestBotsLeaveNoSessions: a client without a cookie gets a session for each visit to a form. Each
// ends after FirstUseTimeout. The session of a visitor who comes back has its whole idle limit.
func TestBotsLeaveNoSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{CSRF: true})
		page := session.HandlerFunc(formPage)
		back := s.visitor()
		back.handle(page)
		for range 1000 {
			mustEqual(t, "status", s.visitor().handle(page).Code, 200)
		}
		synctest.Wait()
		mustEqual(t, "sessions", s.store.Len(), 1001)
		mustEqual(t, "uses written", s.store.touches.Load(), 0)
		time.Sleep(14 * time.Minute)
		mustEqual(t, "n of the visitor who comes back", back.count(), 1)
		synctest.Wait()
		time.Sleep(2 * time.Minute) // the store removes expired sessions once a minute
		synctest.Wait()
		mustEqual(t, "sessions after 16 minutes", s.store.Len(), 1)
		time.Sleep(2*time.Hour - 2*time.Minute - time.Millisecond)
		mustEqual(t, "n after an idle limit", back.count(), 1)
	})
}

// TestFirstUseTimeoutEndsAnUnusedSession: to the millisecond. Info shows it.
func TestFirstUseTimeoutEndsAnUnusedSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, first := range []time.Duration{time.Minute, 15 * time.Minute, 2 * time.Hour} {
			s := newSite(t, session.Config{FirstUseTimeout: first, Cookie: session.Cookie{Persistent: true}})
			created, v := time.Now(), s.visitor()
			var i session.Info
			w := v.do(func(ses *session.Session) error {
				n.Add(ses, 1)
				err := ses.Commit(t.Context())
				i = ses.Info()
				return err
			})
			if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge != 24*3600 {
				t.Errorf("Set-Cookie %q, want that of the lifetime", cookies(w))
			}
			if !i.Created.Equal(created) || !i.Seen.Equal(created) || !i.Expires.Equal(created.Add(first)) {
				t.Errorf("created at %v with FirstUseTimeout %v: %+v", created, first, i)
			}
			never := s.unconfirmed()
			time.Sleep(first - time.Millisecond)
			mustEqual(t, "n before the end", v.count(), 1)
			synctest.Wait()
			time.Sleep(time.Millisecond)
			mustEqual(t, "n of a visitor who comes back too late", never.count(), 0)
		}
	})
}

// TestSignInFromAnUnusedSession: it keeps KeepFields, and the new session has its whole idle limit.
func TestSignInFromAnUnusedSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{KeepFields: []string{"n"}})
		v := s.unconfirmed()
		time.Sleep(14 * time.Minute)
		v.do(signIn("ada"))
		time.Sleep(2*time.Hour - time.Millisecond)
		mustEqual(t, "n of the user", v.count(), 1)
		mustEqual(t, "user", v.who(), "ada")
		direct := s.mustSignIn("bob")
		time.Sleep(2*time.Hour - time.Millisecond)
		mustEqual(t, "user who had no session", direct.who(), "bob")
	})
}

// TestPassiveRouteIsNoFirstUse: a page that polls does not keep an unused session.
func TestPassiveRouteIsNoFirstUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.unconfirmed()
		poll := session.Route{Passive: true}.Handler(session.HandlerFunc(
			func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error { return readCount(ses) }))
		for range 15 {
			time.Sleep(time.Minute)
			v.handle(poll)
			synctest.Wait()
		}
		mustEqual(t, "n after 15 minutes of polling", v.count(), 0)
	})
}

// TestStreamKeepsTheSessionItCreated: the client of a stream is there. Reload and Commit on it are
// uses of the session that the same request created, also if it renewed the token.
func TestStreamKeepsTheSessionItCreated(t *testing.T) {
	for name, use := range map[string]func(context.Context, *session.Session) error{
		"reloads": func(ctx context.Context, ses *session.Session) error { return ses.Reload(ctx) },
		"commits": func(ctx context.Context, ses *session.Session) error { n.Add(ses, 0); return ses.Commit(ctx) },
	} {
		for _, renews := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				v := newSite(t, session.Config{}).visitor()
				v.handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
					n.Add(ses, 1)
					err := ses.Commit(r.Context())
					if renews {
						err = errors.Join(err, ses.Renew(r.Context()))
					}
					w.WriteHeader(200)
					time.Sleep(14 * time.Minute)
					err = errors.Join(err, use(r.Context(), ses))
					time.Sleep(2*time.Hour - time.Millisecond)
					return errors.Join(err, ses.Reload(r.Context()))
				}))
				mustEqual(t, fmt.Sprintf("n of a stream that %s, with a new token: %t", name, renews), v.count(), 1)
			})
		}
	}
}
