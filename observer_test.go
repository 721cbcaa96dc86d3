package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// watcher is an Observer that notes what it sees. Its hooks, if set, are called first.
type watcher struct {
	t          *testing.T
	start, end func(o session.Operation)
	event      func(e session.Event)

	mu   sync.Mutex
	seen []string // the name and the outcome of each operation, and the kind of each event
	last session.Operation
}

type watched struct{}

func (w *watcher) Start(ctx context.Context, o session.Operation) context.Context {
	if w.start != nil {
		w.start(o)
	}
	return context.WithValue(ctx, watched{}, o.Name)
}

func (w *watcher) End(ctx context.Context, o session.Operation) {
	if w.end != nil {
		w.end(o)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Value(watched{}) != o.Name {
		w.t.Errorf("End of %q does not get the context of its Start", o.Name)
	}
	w.seen, w.last = append(w.seen, o.Name+" "+o.Outcome), o
}

func (w *watcher) Event(_ context.Context, e session.Event) {
	if w.event != nil {
		w.event(e)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, "event "+string(e.Kind))
}

// lastOperation returns the last operation that was seen.
func (w *watcher) lastOperation() session.Operation {
	synctest.Wait() // for touches
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// take returns what was seen since the last call.
func (w *watcher) take() string {
	synctest.Wait() // for touches
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := strings.Join(w.seen, ", ")
	w.seen = nil
	return seen
}

// TestObserverSeesEachOperation: each call of the store has a name, an outcome and the handle of
// its session, and each event is reported.
func TestObserverSeesEachOperation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := &watcher{t: t}
		s := newSite(t, session.Config{Observers: []session.Observer{w}, MaxPerUser: 1, RefuseExtra: true})
		v := s.visitor()
		step := func(what, want string, got *httptest.ResponseRecorder) {
			t.Helper()
			if seen := w.take(); seen != want {
				t.Errorf("%s: saw %q, want %q (status %d)", what, seen, want, got.Code)
			}
		}
		update := func(f func(string) (string, error)) func(*session.Session) error {
			return func(ses *session.Session) error { _, err := theme.Update(t.Context(), ses, f); return err }
		}
		step("a new session", "create ok, event created", v.do(increment))
		step("the first use", "load ok, touch ok", v.do(readCount))
		if o := w.lastOperation(); o.Handle != v.info().Handle || o.Err != nil || o.Cached {
			t.Errorf("the last operation is %+v, want handle %s", o, v.info().Handle)
		}
		w.take()
		step("an update", "load ok, update ok", v.do(update(func(string) (string, error) { return "dark", nil })))
		step("an update that gives up", "load ok, update canceled", v.do(update(func(string) (string, error) { return "", errDown })))
		if o := w.lastOperation(); o.Err == nil || errors.Is(o.Err, errDown) {
			t.Errorf("the error of an Update's function is the application's, and the operation has %v", o.Err)
		}
		step("an update that panics", "load ok, update canceled", v.do(func(ses *session.Session) error {
			defer func() { _ = recover() }()
			return update(func(string) (string, error) { panic("application") })(ses)
		}))
		fresh := s.visitor()
		step("an update of a new session", "update ok, event created", fresh.do(update(func(string) (string, error) { return "dark", nil })))
		if o := w.lastOperation(); o.Handle != fresh.info().Handle {
			t.Errorf("the update of a new session: %+v", o)
		}
		w.take()
		old := v.tab()
		step("a sign-in", "load ok, sign_in ok, event signed in", v.do(signIn("ada")))
		step("the token before", "load moved", old.do(readCount))
		step("a list", "load ok, list ok", v.do(func(*session.Session) error { _, err := listAll(t.Context(), s.m, "ada"); return err }))
		s.store.fail("apply", driver.ErrUnknown)
		step("a lost reply", "load ok, commit unknown", v.do(increment))
		s.store.fail("apply", errDown)
		step("an outage", "load ok, commit unavailable", v.do(increment))
		if o := w.lastOperation(); !errors.Is(o.Err, errDown) {
			t.Errorf("the cause is %v", o.Err)
		}
		s.store.fail("load", context.Canceled)
		step("the client hung up", "load canceled", v.do(readCount))
		s.store.up()
		step("a sign-in over the limit", "sign_in refused", s.visitor().do(signIn("ada")))
		step("a sign-out", "load ok, end ok, event signed out", v.do(signOut))
		s.m.RevokeUser(t.Context(), "ada")
		s.m.RevokeAll(t.Context())
		step("revocations", "end_user ok, end_all ok, event revoked", httptest.NewRecorder())
		time.Sleep(2 * time.Minute)
		step("a token of no session", "load not_found, event refused", old.do(readCount))
		_, token, _ := strings.Cut(old.cookie, "=")
		if o := w.lastOperation(); strings.Contains(fmt.Sprintf("%+v", o), token) {
			t.Errorf("the operation contains the token: %+v", o)
		}
	})
}

// TestObserverThatPanicsHarmsNobody: requests succeed, a second Observer sees all, and the log has
// one line.
func TestObserverThatPanicsHarmsNobody(t *testing.T) {
	for _, where := range []string{"Start", "End", "Event"} {
		bubble(t, func(t *testing.T) {
			bad, good := &watcher{t: t}, &watcher{t: t}
			switch where {
			case "Start":
				bad.start = func(session.Operation) { panic("observer") }
			case "End":
				bad.end = func(session.Operation) { panic("observer") }
			case "Event":
				bad.event = func(session.Event) { panic("observer") }
			}
			s := newSite(t, session.Config{Observers: []session.Observer{bad, good}})
			v := s.mustSignIn("ada")
			v.mustDo(func(_ context.Context, ses *session.Session) { n.Add(ses, 1) })
			if got := v.count(); got != 1 {
				t.Errorf("%s: n = %d, want 1", where, got)
			}
			if seen := good.take(); seen != "sign_in ok, event signed in, load ok, commit ok, load ok" {
				t.Errorf("%s: the other Observer saw %q", where, seen)
			}
			if lines := strings.Count(s.log.String(), "an Observer panicked"); lines != 1 {
				t.Errorf("%s: the panic was logged %d times:\n%s", where, lines, s.log)
			}
			if where == "Start" && bad.seen != nil && strings.Contains(strings.Join(bad.seen, ","), "load") {
				t.Errorf("End was called after a Start that panicked: %q", bad.seen)
			}
		})
	}
}

// TestObserverThatBlocksDelaysItsOwnRequestOnly: another request changes the same session, also by
// an Update. The delayed commit is not lost, though it takes longer than CommitTimeout.
func TestObserverThatBlocksDelaysItsOwnRequestOnly(t *testing.T) {
	for _, where := range []string{"Start", "End"} {
		for _, name := range []string{session.OperationCommit, session.OperationUpdate} {
			bubble(t, func(t *testing.T) {
				w, blocked := &watcher{t: t}, make(chan struct{})
				var first atomic.Bool
				block := func(o session.Operation) {
					if o.Name == name && first.CompareAndSwap(false, true) {
						<-blocked
					}
				}
				s := newSite(t, session.Config{Observers: []session.Observer{w}})
				v := s.known()
				if where == "Start" {
					w.start = block
				} else {
					w.end = block
				}
				add := func(ses *session.Session) error {
					if name == session.OperationCommit {
						return increment(ses)
					}
					_, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "x", nil })
					n.Add(ses, 1)
					return err
				}
				done := make(chan *httptest.ResponseRecorder)
				go func() { done <- v.tab().do(add) }()
				synctest.Wait()
				began := time.Now()
				if res := v.tab().do(add); res.Code != 200 || time.Since(began) != 0 {
					t.Errorf("%s of %s: another request: %d after %v", where, name, res.Code, time.Since(began))
				}
				time.Sleep(10 * time.Second) // CommitTimeout is 2s
				close(blocked)
				if res := <-done; res.Code != 200 || v.count() != 3 {
					t.Errorf("%s of %s: the delayed request: %d, n = %d, want 3\n%s", where, name, res.Code, v.count(), s.log)
				}
			})
		}
	}
}

// TestObserverThatBlocksStopsNoTouch: neither the touches of other requests nor the reports of
// expiry wait for an Observer, and the number of goroutines is bounded.
func TestObserverThatBlocksStopsNoTouch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, blocked := &watcher{t: t}, make(chan struct{})
		w.end = func(o session.Operation) {
			if o.Name == session.OperationTouch {
				<-blocked
			}
		}
		w.event = func(e session.Event) {
			if e.Kind == session.EventExpired {
				<-blocked
			}
		}
		expired := 0
		s := newSite(t, session.Config{
			Observers: []session.Observer{w}, OnEvent: func(_ context.Context, e session.Event) {
				if e.Kind == session.EventExpired {
					expired++
				}
			},
		})
		before := runtime.NumGoroutine()
		const requests = 200
		for range requests {
			s.unconfirmed().do(readCount)
			s.mustSignIn("ada")
			synctest.Wait() // a Manager drops touches beyond 64 at the same time
		}
		if got := s.store.touches.Load(); got != requests {
			t.Errorf("%d touches, want %d", got, requests)
		}
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if expired != requests {
			t.Errorf("%d expiries were reported to OnEvent, want %d", expired, requests)
		}
		if got := runtime.NumGoroutine() - before; got > 70 {
			t.Errorf("%d goroutines wait for the Observer", got)
		}
		close(blocked)
	})
}

// TestHandleFrom: for loggers other than slog. It does not read the session.
func TestHandleFrom(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	loads := s.store.loads.Load()
	v.handle(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mustEqual(t, "before From", session.HandleFrom(r.Context()), "")
	}))
	mustEqual(t, "loads", s.store.loads.Load(), loads)
	v.mustDo(func(ctx context.Context, ses *session.Session) {
		mustEqual(t, "after From", session.HandleFrom(ctx), ses.Info().Handle)
	})
	mustEqual(t, "outside a request", session.HandleFrom(t.Context()), "")
}

// TestNilObserverIsRefused: New names the field.
func TestNilObserverIsRefused(t *testing.T) {
	_, err := session.New(newFaultyStore(), session.Config{Observers: []session.Observer{nil}})
	if err == nil || !strings.HasPrefix(err.Error(), "session: Config.Observers") {
		t.Errorf("%v", err)
	}
}
