package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// watching is a request that watches its session, and what it has seen.
type watching struct {
	mu    sync.Mutex
	lines []string
	done  chan struct{} // closed when the loop is over
	stop  context.CancelFunc

	session *session.Session
	cookie  string // the response's Set-Cookie
}

// watch begins a request of the visitor that watches the session until it ends or stop is called.
// each runs for each change; nil: nothing.
func (v *visitor) watch(t *testing.T, each func(s *session.Session)) *watching {
	t.Helper()
	w := &watching{done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	w.stop = cancel
	go func() {
		defer close(w.done)
		v.tab().serve(func(out http.ResponseWriter, _ *http.Request, s *session.Session) error {
			if err := http.NewResponseController(out).Flush(); err != nil {
				return err
			}
			w.session, w.cookie = s, out.Header().Get("Set-Cookie")
			for change, err := range s.Watch(ctx) {
				line := strings.Join(change.Fields, ",") + fmt.Sprintf(" n=%d", n.Get(s))
				if change.Missed {
					line += " missed"
				}
				if err != nil {
					line = err.Error()
				}
				w.mu.Lock()
				w.lines = append(w.lines, line)
				w.mu.Unlock()
				if each != nil && err == nil {
					each(s)
				}
			}
			return nil
		})
	}()
	t.Cleanup(func() { cancel(); <-w.done })
	synctest.Wait()
	return w
}

// mustSee checks everything that was seen so far.
func (w *watching) mustSee(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Join(w.lines, "; "); got != strings.Join(want, "; ") {
		t.Errorf("saw %q, want %q", got, want)
	}
}

// TestWatchSeesWhatOthersCommit: each change arrives at once, with the names of the fields, and the
// Session shows it.
func TestWatchSeesWhatOthersCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		v := newSite(t, session.Config{}).known()
		w := v.watch(t, nil)
		w.mustSee(t)
		v.tab().do(increment)
		w.mustSee(t, "n n=2")
		v.tab().do(func(s *session.Session) error {
			cart.Add(s, "tea", 1)
			cart.Add(s, "milk", 1)
			session.Counter("cart-size").Add(s, 2) // its name is between those of the entries
			theme.Set(s, "dark")
			return nil
		})
		v.tab().do(readCount)
		w.mustSee(t, "n n=2", "cart,cart-size,theme n=2")
		v.tab().do(func(s *session.Session) error { cart.Clear(s); return nil })
		w.mustSee(t, "n n=2", "cart,cart-size,theme n=2", "cart n=2")
	})
}

// TestWatchDoesNotYieldOwnChanges: what the request itself commits is not news to it. What it has
// not committed stays.
func TestWatchDoesNotYieldOwnChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		v := newSite(t, session.Config{}).known()
		w := v.watch(t, func(s *session.Session) {
			n.Add(s, 10)
			if theme.Get(s) == "commit" {
				if err := s.Commit(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
		v.tab().do(func(s *session.Session) error { theme.Set(s, "x"); return nil })
		w.mustSee(t, "theme n=1")
		v.tab().do(func(s *session.Session) error { theme.Set(s, "commit"); return nil })
		w.mustSee(t, "theme n=1", "theme n=11")
		mustEqual(t, "n", v.count(), 21)
	})
}

// TestSlowWatcherIsTold: a reader that is slower than the changes gets the newest values, and
// learns that it missed some. Nothing is queued for it.
func TestSlowWatcherIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		v := newSite(t, session.Config{}).known()
		w := v.watch(t, func(*session.Session) { time.Sleep(time.Second) })
		v.tab().do(increment)
		w.mustSee(t, "n n=2")
		for range 99 {
			v.tab().do(increment)
		}
		w.mustSee(t, "n n=2")
		time.Sleep(time.Second)
		w.mustSee(t, "n n=2", "n n=101 missed")
	})
}

// TestWatchEnds: the loop ends with ErrEnded at once, whatever ends the session, and without an
// error when its context is done.
func TestWatchEnds(t *testing.T) {
	for name, end := range map[string]func(s *site, v *visitor){
		"sign-out":          func(_ *site, v *visitor) { v.tab().do(signOut) },
		"a new token":       func(_ *site, v *visitor) { v.tab().do(renew) },
		"a sign-in":         func(_ *site, v *visitor) { v.tab().do(signIn("ada")) },
		"another user":      func(_ *site, v *visitor) { v.tab().do(signIn("eve")) },
		"the user's revoke": func(s *site, _ *visitor) { _, _ = s.m.RevokeUser(context.Background(), "ada") },
		"everybody's":       func(s *site, _ *visitor) { _ = s.m.RevokeAll(context.Background()) },
		"one session's":     func(s *site, v *visitor) { _ = s.m.Revoke(context.Background(), "ada", v.info().Handle) },
		"idle":              func(*site, *visitor) { time.Sleep(2 * time.Hour) },
		"deadline": func(_ *site, v *visitor) {
			for range 24 {
				time.Sleep(time.Hour)
				v.tab().do(readCount)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newSite(t, session.Config{})
				v := s.mustSignIn("ada")
				w := v.watch(t, nil)
				w.mustSee(t)
				end(s, v)
				time.Sleep(2 * time.Millisecond)
				w.mustSee(t, session.ErrEnded.Error())
				<-w.done
			})
		})
	}
	t.Run("the context", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newSite(t, session.Config{}).known().watch(t, nil)
			w.stop()
			<-w.done
			w.mustSee(t)
		})
	})
}

// TestWatchOutlivesAnOutage: while the store is down the loop waits, and afterwards it yields what
// has changed. It gives up after Config.WatchTimeout.
func TestWatchOutlivesAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{WatchTimeout: time.Minute})
		v := s.known()
		w := v.watch(t, nil)
		direct := *s // a node that reaches the store all the time
		var err error
		if direct.m, err = session.New(s.store.Store, session.Config{}); err != nil {
			t.Fatal(err)
		}
		outage := func(d time.Duration) {
			s.store.fail("load", errDown)
			v.at(&direct).do(func(ses *session.Session) error { theme.Set(ses, theme.Get(ses)+"x"); return nil })
			time.Sleep(d)
			s.store.up()
			time.Sleep(2 * time.Second)
		}
		outage(50 * time.Second)
		const late = "theme n=1 missed" // what else happened in the outage is not known
		w.mustSee(t, late)
		outage(50 * time.Second) // the time begins anew
		w.mustSee(t, late, late)
		outage(62 * time.Second)
		w.mustSee(t, late, late, session.ErrUnavailable.Error()+": "+errDown.Error())
	})
}

// TestWatchLosesNothingThatAnOwnCommitBrings: an own commit brings others' changes into the view
// before the loop sees them. The loop still yields them, also if the store returns no records.
func TestWatchLosesNothingThatAnOwnCommitBrings(t *testing.T) {
	for _, noRecord := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{})
			v := s.known()
			s.store.noRecord = noRecord
			w := v.watch(t, nil)
			own := func() {
				n.Add(w.session, 10)
				if err := w.session.Commit(context.Background()); err != nil {
					t.Error(err)
				}
				synctest.Wait()
			}
			own()
			own()
			w.mustSee(t)
			s.store.fail("load", errDown) // the loop cannot read
			theirs := *s
			theirs.m, _ = session.New(s.store.Store, session.Config{})
			v.at(&theirs).do(func(ses *session.Session) error { theme.Set(ses, "dark"); return nil })
			own()
			w.mustSee(t)
			s.store.up()
			time.Sleep(time.Second)
			w.mustSee(t, "n,theme n=31 missed")
			own()
			w.mustSee(t, "n,theme n=31 missed")
		})
	}
}

// TestWatchReportsWhatAFailoverLost: after a failover the store has an older state, and goes on
// from there. The loop yields it, and says that something is missing, whatever the revisions are.
func TestWatchReportsWhatAFailoverLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		store := &rollbackStore{faultyStore: s.store}
		s.m, _ = session.New(store, session.Config{})
		v := s.known()
		w := v.watch(t, nil)
		before := *store.last.Load()
		v.tab().do(increment)
		store.Wake(store.id)
		w.mustSee(t, "n n=2")
		store.serve.Store(&before)
		store.WakeAll()
		w.mustSee(t, "n n=2", "n n=1 missed")
		next := before
		next.Revision++
		next.Fields = driver.Fields{{Key: "n", Value: []byte("7")}}
		store.serve.Store(&next)
		store.WakeAll()
		w.mustSee(t, "n n=2", "n n=1 missed", "n n=7 missed")
		same := next
		store.serve.Store(&same)
		store.WakeAll() // nothing is missing
		w.mustSee(t, "n n=2", "n n=1 missed", "n n=7 missed")
	})
}

// rollbackStore can serve another record than the stored one.
type rollbackStore struct {
	*faultyStore
	driver.Watchers
	id          driver.ID
	last, serve atomic.Pointer[driver.Record]
}

func (r *rollbackStore) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	rec, now, err := r.faultyStore.Load(ctx, id)
	if other := r.serve.Load(); other != nil {
		return other, now, err
	}
	r.id = id
	r.last.Store(rec)
	return rec, now, err
}

// TestOneWatchARequest: two loops would take each other's changes. One after the other is fine.
func TestOneWatchARequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		v := newSite(t, session.Config{}).known()
		v.serve(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			v.tab().do(increment)
			for range s.Watch(ctx) {
				for _, err := range s.Watch(ctx) {
					if !errors.Is(err, session.ErrInvalid) {
						t.Errorf("the second loop: %v", err)
					}
				}
				break
			}
			for _, err := range s.Watch(ctx) {
				t.Errorf("a loop after the first: %v", err)
			}
			if err := s.SignOut(ctx); err != nil {
				t.Error(err)
			}
			for _, err := range s.Watch(t.Context()) {
				if !errors.Is(err, session.ErrInvalid) {
					t.Errorf("after SignOut: %v", err)
				}
			}
			return nil
		})
	})
}

// TestWatchAndRotation: the response that carries a new token watches on. One with an old token
// ends when its grace period does.
func TestWatchAndRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		v := newSite(t, session.Config{RotateEvery: time.Hour}).known()
		time.Sleep(time.Hour + time.Minute)
		rotates, old := v.watch(t, nil), v.watch(t, nil)
		v.cookie, _, _ = strings.Cut(rotates.cookie, ";")
		v.do(increment)
		old.mustSee(t, "n n=2")
		time.Sleep(driver.RotationGrace - time.Millisecond)
		old.mustSee(t, "n n=2")
		time.Sleep(2 * time.Millisecond)
		old.mustSee(t, "n n=2", session.ErrEnded.Error())
		v.do(increment)
		rotates.mustSee(t, "n n=2", "n n=3")
	})
}

// TestWatchNeedsASession: nothing can be watched before it is stored.
func TestWatchNeedsASession(t *testing.T) {
	s := newSite(t, session.Config{})
	s.visitor().do(func(ses *session.Session) error {
		for _, err := range ses.Watch(t.Context()) {
			if !errors.Is(err, session.ErrInvalid) {
				t.Errorf("got %v", err)
			}
		}
		return nil
	})
}

// TestWatchAsksAStoreThatDoesNotReport: once a second.
func TestWatchAsksAStoreThatDoesNotReport(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		var err error
		if s.m, err = session.New(&recordlessStore{UserStore: s.store.Store}, session.Config{}); err != nil {
			t.Fatal(err)
		}
		v := s.known()
		w := v.watch(t, nil)
		v.tab().do(increment)
		w.mustSee(t)
		time.Sleep(time.Second)
		w.mustSee(t, "n n=2")
		v.tab().do(signOut)
		time.Sleep(time.Second)
		w.mustSee(t, "n n=2", session.ErrEnded.Error())
	})
}

// TestWatchersShareTheirReads: a change that wakes a thousand watchers is read a few times.
func TestWatchersShareTheirReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		for range 1000 {
			v.watch(t, nil)
		}
		before := s.store.loads.Load()
		s.store.set(func(string) error { time.Sleep(time.Millisecond); return nil })
		v.tab().do(increment)
		time.Sleep(time.Second)
		if got := s.store.loads.Load() - before; got > 10 {
			t.Errorf("%d reads", got)
		}
	})
}

// TestOpenResponseCommitsForAsLongAsItStays: each commit is a use of the session, and shows what
// others have stored.
func TestOpenResponseCommitsForAsLongAsItStays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		v := newSite(t, session.Config{IdleTimeout: 10 * time.Minute}).mustSignIn("ada")
		v.mustDo(func(ctx context.Context, s *session.Session) {
			mustEqual(t, "Commit", s.Commit(ctx), nil)
			for i := range int64(60) {
				time.Sleep(9 * time.Minute)
				if i%2 == 0 {
					n.Add(s, 1)
					mustEqual(t, "Commit", s.Commit(ctx), nil)
				} else if _, err := n.AddWithin(ctx, s, 1, 0, 1000); err != nil {
					t.Errorf("AddWithin: %v", err)
				}
				mustEqual(t, "n", n.Get(s), 2*i+1)
				v.tab().serveRoute(session.Route{Passive: true},
					func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error { return increment(s) })
			}
		})
		mustEqual(t, "n", v.count(), 120)
	})
}

// TestOpenResponseAfterTheEnd: all commits of a response whose session has ended are refused, and
// Reload says so, too.
func TestOpenResponseAfterTheEnd(t *testing.T) {
	v := newSite(t, session.Config{}).mustSignIn("ada")
	v.do(func(s *session.Session) error {
		v.tab().do(signOut)
		ctx := context.Background()
		for range 3 {
			n.Add(s, 1)
			_, err := n.AddWithin(ctx, s, 1, 0, 9)
			for _, err := range []error{s.Commit(ctx), err, gifts.SetWithin(ctx, s, "a", gift{}, 9)} {
				if !errors.Is(err, session.ErrEnded) {
					t.Errorf("after the end: %v, want ErrEnded", err)
				}
			}
			if err := s.Reload(ctx); !errors.Is(err, session.ErrEnded) {
				t.Errorf("Reload: %v, want ErrEnded", err)
			}
		}
		return nil
	})
}

// TestReloadAllowsCommitsAfterAnOutage: a failed commit stops an open response's commits, so that
// none is made on top of an unknown state, until Reload succeeds.
func TestReloadAllowsCommitsAfterAnOutage(t *testing.T) {
	site := newSite(t, session.Config{})
	v := site.mustSignIn("ada")
	v.mustDo(func(ctx context.Context, s *session.Session) {
		site.store.fail("apply", errDown)
		n.Add(s, 1)
		if err := s.Commit(ctx); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Commit during the outage: %v", err)
		}
		site.store.up()
		if _, err := n.AddWithin(ctx, s, 1, 0, 9); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("AddWithin before Reload: %v", err)
		}
		mustEqual(t, "Reload", s.Reload(ctx), nil)
		got, err := n.AddWithin(ctx, s, 1, 0, 9)
		mustEqual(t, "AddWithin after Reload", fmt.Sprint(got, err), "1 <nil>")
	})
}

// TestGoroutineCommitsAfterItsResponse: a goroutine that outlives its request commits with the same
// promises. It cannot send a cookie any more.
func TestGoroutineCommitsAfterItsResponse(t *testing.T) {
	site := newSite(t, session.Config{})
	v := site.mustSignIn("ada")
	afterResponse := func(v *visitor) (s *session.Session, ctx context.Context) {
		v.serve(func(_ http.ResponseWriter, r *http.Request, own *session.Session) error {
			s, ctx = own, r.Context()
			mustEqual(t, "n", n.Get(s), v.count())
			return nil
		})
		return s, ctx
	}
	s, ctx := afterResponse(v)
	v.tab().do(increment)
	n.Add(s, 1)
	mustEqual(t, "Commit", s.Commit(ctx), nil)
	mustEqual(t, "n with others' changes", n.Get(s), 2)
	got, err := n.AddWithin(ctx, s, 1, 0, 9)
	mustEqual(t, "AddWithin", fmt.Sprint(got, err), "3 <nil>")
	mustEqual(t, "n", v.count(), 3)
	if err := s.Renew(ctx); !errors.Is(err, session.ErrHeaderSent) {
		t.Errorf("Renew: %v, want ErrHeaderSent", err)
	}
	s, ctx = afterResponse(v)
	v.tab().do(signOut)
	n.Add(s, 1)
	if err := s.Commit(ctx); !errors.Is(err, session.ErrEnded) {
		t.Errorf("Commit after the sign-out: %v, want ErrEnded", err)
	}
	s, ctx = afterResponse(site.visitor())
	n.Add(s, 1)
	if err := s.Commit(ctx); !errors.Is(err, session.ErrHeaderSent) {
		t.Errorf("Commit without a session: %v, want ErrHeaderSent", err)
	}
}
