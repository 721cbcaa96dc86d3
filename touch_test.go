package session_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
)

// TestReadingKeepsASessionAlive, to the deadline and not past it, with no more than a write a minute.
func TestReadingKeepsASessionAlive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{}) // 2 h idle, 24 h in all
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
			t.Error("a session that nobody used is alive")
		}
		time.Sleep(16 * time.Second)
		if v.count() != 0 {
			t.Error("constant use outlives the deadline")
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{IdleTimeout: time.Hour})
		v := s.known()
		time.Sleep(time.Hour - time.Millisecond)
		if v.count() != 1 {
			t.Error("ended too early")
		}
		synctest.Wait() // that use is written down
		time.Sleep(time.Hour - time.Minute)
		if v.count() != 1 {
			t.Error("reading did not prolong it")
		}
		synctest.Wait()
		time.Sleep(time.Hour)
		if v.count() != 0 {
			t.Error("alive after an idle hour")
		}
	})
}

// TestUnusedSessionIsNotTouched: a request that does not ask for its session costs no round trip.
func TestUnusedSessionIsNotTouched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		time.Sleep(time.Hour)
		before := s.store.loads.Load()
		v.handle(http.NotFoundHandler())
		synctest.Wait()
		if s.store.loads.Load() != before || s.store.touches.Load() != 0 {
			t.Error("round trips")
		}
	})
}

// TestFailedTouchFailsNoRead, nor delays one.
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
		if log := s.log.String(); s.store.touches.Load() != 1 || !strings.Contains(log, "level=WARN") || !strings.Contains(log, "not written to the store") {
			t.Errorf("%d touches; log %s", s.store.touches.Load(), log)
		}
	})
}

// TestHangingTouchesAreBounded: a store that does not answer holds up no request, and no crowd of goroutines.
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
			t.Errorf("%d at a time", got)
		}
		close(hang)
		synctest.Wait()
	})
}

// TestReloadTouches: a stream is a use when it asks.
func TestReloadTouches(t *testing.T) {
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
			t.Error("ended although a stream used it")
		}
	})
}

// TestPassiveRoute: asking for news, or for the time left, keeps no session alive, however often; a change does, and the route beside it.
func TestPassiveRoute(t *testing.T) {
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
			want(t, "status", v.handle(session.Route{Passive: true}.Handler(poll)).Code, 200)
			synctest.Wait()
			return left
		}
		for i := range 59 {
			time.Sleep(time.Minute)
			want(t, "time left", left(false), time.Duration(59-i)*time.Minute)
		}
		want(t, "uses written down", s.store.touches.Load(), 0)
		left(true)
		want(t, "time left after a change", left(false), time.Hour)
		time.Sleep(time.Hour - time.Minute)
		want(t, "n, by a route that is not passive", v.count(), 2)
		synctest.Wait()
		want(t, "time left after that", left(false), time.Hour)
		for range 60 {
			time.Sleep(time.Minute)
			left(false)
		}
		want(t, "n after an hour of asking", v.count(), 0)
	})
}

// TestPassiveRouteDoesNotRotate: a poll that finds the token old leaves it so, for the write of a new one would be a use; and what a handler asks of a
// part of itself does not make it one.
func TestPassiveRouteDoesNotRotate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{IdleTimeout: 10 * time.Minute, RotateEvery: 5 * time.Minute})
		v := s.known()
		poll := session.Route{Passive: true}.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
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
		want(t, "n after ten minutes of asking", v.count(), 0)
		want(t, "uses written down", s.store.touches.Load(), 0)
	})
}
