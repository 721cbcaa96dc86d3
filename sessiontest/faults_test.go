package sessiontest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/sessiontest"
	"github.com/coatcheck-go/session/storetest"
)

// TestFaultyStoreKeepsTheContract: without Faults a wrapped store passes the suite of the stores.
func TestFaultyStoreKeepsTheContract(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(t testing.TB) driver.Store {
			s := memstore.New()
			t.Cleanup(func() { s.Close() })
			store, _ := sessiontest.Faulty(s)
			return store
		},
		Unit: 59 * time.Second, // below a minute, no case waits for a month
	})
}

// TestFaultyStoreHasTheAbilitiesOfTheStore: no more than the store has of those that change what a
// Manager does.
func TestFaultyStoreHasTheAbilitiesOfTheStore(t *testing.T) {
	m := memstore.New()
	for _, store := range []driver.Store{
		struct{ driver.Store }{m},
		struct{ driver.UserStore }{m},
		struct {
			driver.Store
			driver.EndReporter
		}{m, m},
		struct {
			driver.Store
			driver.Feed
		}{m, m},
		struct {
			driver.Store
			driver.EndReporter
			driver.Feed
		}{m, m, m},
		struct {
			driver.UserStore
			driver.EndReporter
		}{m, m},
		struct {
			driver.UserStore
			driver.Feed
		}{m, m},
		m,
	} {
		faulty, _ := sessiontest.Faulty(store)
		if got, want := abilities(faulty), abilities(store); got != want {
			t.Errorf("%T: %s, want %s", store, got, want)
		}
	}
}

// abilities says which of the abilities a store has that have no form as good as none.
func abilities(s driver.Store) string {
	_, users := s.(driver.UserStore)
	_, ends := s.(driver.EndReporter)
	_, feed := s.(driver.Feed)
	return fmt.Sprintf("users %v, ends %v, feed %v", users, ends, feed)
}

// cachingStore has the abilities that memstore does not have, and a clock of its own.
type cachingStore struct {
	driver.UserStore
	fresh, stale bool // LoadFresh or LoadStale was called
}

func (c *cachingStore) LoadFresh(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	c.fresh = true
	return c.Load(ctx, id)
}

func (c *cachingStore) LoadStale(driver.ID) (*driver.Record, time.Time, bool) {
	c.stale = true
	return nil, c.Now(), false
}

func (c *cachingStore) Now() time.Time { return time.UnixMilli(1_800_000_000_000) }

// TestFaultyStoreAsksTheStoreForItsCopies: and for its time.
func TestFaultyStoreAsksTheStoreForItsCopies(t *testing.T) {
	caching := &cachingStore{UserStore: memstore.New()}
	store, faults := sessiontest.Faulty(caching)
	faults.Set(sessiontest.Unavailable)
	fresh := store.(driver.FreshLoader)
	if _, now, err := fresh.LoadFresh(t.Context(), driver.ID{}); err == nil || caching.fresh || !now.Equal(caching.Now()) {
		t.Errorf("while the store is down, LoadFresh returns %v, %v", now, err)
	}
	faults.Clear()
	fresh.LoadFresh(t.Context(), driver.ID{})
	store.(driver.StaleLoader).LoadStale(driver.ID{})
	if !caching.fresh || !caching.stale {
		t.Errorf("the store was asked for a fresh record: %v, for a copy: %v", caching.fresh, caching.stale)
	}
}

// TestFaults: what each Fault makes of a change, and what the store then has.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fault  sessiontest.Fault
		op     sessiontest.Op
		err    error // of From, or of the commit
		visits int64 // afterwards
	}{
		{"unavailable, reading", sessiontest.Unavailable, sessiontest.OpLoad, session.ErrUnavailable, 1},
		{"unavailable, changing", sessiontest.Unavailable, sessiontest.OpApply, session.ErrUnavailable, 1},
		{"hanging, reading", sessiontest.Hang, sessiontest.OpLoad, session.ErrUnavailable, 1},
		{"hanging, changing", sessiontest.Hang, sessiontest.OpApply, session.ErrUnknownOutcome, 1},
		{"request lost", sessiontest.RequestLost, sessiontest.OpApply, session.ErrUnknownOutcome, 1},
		{"reply lost", sessiontest.ReplyLost, sessiontest.OpApply, session.ErrUnknownOutcome, 2},
		{"ended, reading", sessiontest.Ended, sessiontest.OpLoad, session.ErrEnded, 1},
		{"ended, changing", sessiontest.Ended, sessiontest.OpApply, session.ErrEnded, 1},
		{"moved, reading", sessiontest.Moved, sessiontest.OpLoad, session.ErrEnded, 1},
		{"moved, changing", sessiontest.Moved, sessiontest.OpApply, session.ErrEnded, 1},
		{"conflict without an Update", sessiontest.Conflict, sessiontest.OpApply, nil, 2},
		{"conflict, reading", sessiontest.Conflict, sessiontest.OpLoad, nil, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			store, faults := sessiontest.Faulty(memstore.New())
			m := mustNewManager(store, session.Config{})
			v := sessiontest.SignedIn(t, m, "ada").Change(func(s *session.Session) { visits.Add(s, 1) })
			faults.Next(1, tt.fault, tt.op)
			began, got := time.Now(), error(nil)
			v.Do(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := session.From(r.Context())
				if err == nil {
					visits.Add(s, 1)
					err = s.Commit(r.Context())
				}
				got = err
			})), httptest.NewRequest("GET", "/", nil))
			if waited := time.Since(began); waited > 2*time.Second {
				t.Errorf("%s: the request took %v", tt.name, waited)
			}
			unknown := errors.Is(got, session.ErrUnknownOutcome)
			if !errors.Is(got, tt.err) || unknown != errors.Is(tt.err, session.ErrUnknownOutcome) && tt.op != sessiontest.OpLoad {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.err)
			}
			faults.Clear()
			mustEqual(t, tt.name+": visits", visits.Get(v.Session()), tt.visits)
			mustEqual(t, tt.name+": user", v.Session().User(), "ada")
		})
	}
}

// TestFaultsOfUsersCalls: sign-in, sign-out, lists and revocations fail on demand, too.
func TestFaultsOfUsersCalls(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	m := mustNewManager(store, session.Config{})
	v := sessiontest.SignedIn(t, m, "ada")
	ctx := t.Context()
	for op, call := range map[sessiontest.Op]func() error{
		sessiontest.OpCreate: func() error {
			ctx, err := m.Load(httptest.NewRequest("GET", "/", nil))
			if err != nil {
				return err
			}
			s, err := session.From(ctx)
			if err != nil {
				return err
			}
			visits.Add(s, 1)
			return s.Commit(ctx)
		},
		sessiontest.OpSignIn: func() error { return v.Session().SignIn(ctx, session.Login{User: "ada"}) },
		sessiontest.OpEnd:    func() error { return v.Session().SignOut(ctx) },
		sessiontest.OpTouch: func() error {
			if err := store.Touch(ctx, driver.ID{}, driver.Hash{}); !errors.Is(err, driver.ErrNotFound) {
				return err
			}
			return nil
		},
		sessiontest.OpSessions: func() error {
			for _, err := range m.Sessions(ctx, "ada") {
				return err
			}
			return nil
		},
		sessiontest.OpEndUser: func() error { _, err := m.RevokeUser(ctx, "ada"); return err },
		sessiontest.OpEndAll:  func() error { return m.RevokeAll(ctx) },
	} {
		faults.Clear()
		before := faults.Calls(op)
		faults.Next(1, sessiontest.Unavailable, op)
		if err := call(); err == nil || faults.Calls(op) != before+1 {
			t.Errorf("%s: error %v after %d calls", op, err, faults.Calls(op)-before)
		}
		mustEqual(t, string(op)+": user", v.Session().User(), "ada")
	}
}

// TestCallsThatAFaultCannotHave: Ended, Moved and Conflict leave calls alone whose contract has no
// such error.
func TestCallsThatAFaultCannotHave(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	m := mustNewManager(store, session.Config{})
	for _, fault := range []sessiontest.Fault{sessiontest.Ended, sessiontest.Moved, sessiontest.Conflict} {
		faults.Set(fault, sessiontest.OpSignIn, sessiontest.OpCreate, sessiontest.OpSessions, sessiontest.OpEndUser)
		sessiontest.NewVisitor(t, m).Change(func(s *session.Session) { visits.Add(s, 1) })
		v := sessiontest.SignedIn(t, m, "ada")
		for _, err := range m.Sessions(t.Context(), "ada") {
			mustEqual(t, "listing", err, nil)
		}
		n, err := m.RevokeUser(t.Context(), "ada")
		mustEqual(t, "revoking", err, nil)
		mustEqual(t, "revoked", n, 1)
		mustEqual(t, "user", v.Session().User(), "")
	}
	faults.Set(sessiontest.Ended, sessiontest.OpEnd)
	mustEqual(t, "End", store.End(t.Context(), driver.ID{}), nil)
	faults.Set(sessiontest.Moved, sessiontest.OpEnd)
	mustEqual(t, "End of a session that moved", store.End(t.Context(), driver.ID{}), driver.ErrMoved)
}

// TestConflictCallsTheUpdateAgain: as often as the test says, each time with the stored value.
func TestConflictCallsTheUpdateAgain(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	m := mustNewManager(store, session.Config{Keys: [][]byte{key(1)}, UserKey: key(2), Seal: true})
	v := sessiontest.SignedIn(t, m, "ada").Change(func(s *session.Session) { balance.Set(s, 5) })
	faults.Next(3, sessiontest.Conflict, sessiontest.OpApply)
	var seen []int
	v.Do(m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := balance.Update(r.Context(), s, func(euros int) (int, error) {
			seen = append(seen, euros)
			return euros + 1, nil
		})
		return err
	})), httptest.NewRequest("GET", "/", nil))
	mustEqual(t, "balances seen", fmt.Sprint(seen), "[5 5 5 5]")
	mustEqual(t, "balance", balance.Get(v.Session()), 6)
}

// TestNextCountsCalls: a Fault of several kinds of calls happens n times together. Faults of other
// kinds stay.
func TestNextCountsCalls(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	ctx := t.Context()
	load := func() bool { _, _, err := store.Load(ctx, driver.ID{}); return !errors.Is(err, driver.ErrNotFound) }
	end := func() bool { return store.End(ctx, driver.ID{}) != nil }
	touch := func() bool { return !errors.Is(store.Touch(ctx, driver.ID{}, driver.Hash{}), driver.ErrNotFound) }
	faults.Set(sessiontest.Unavailable, sessiontest.OpTouch)
	faults.Next(2, sessiontest.Unavailable, sessiontest.OpLoad, sessiontest.OpEnd)
	var failed []bool
	for range 2 {
		failed = append(failed, load(), end(), touch())
	}
	mustEqual(t, "failed", fmt.Sprint(failed), "[true true true false false true]")
	mustEqual(t, "calls", faults.Calls(), 6)
	mustEqual(t, "of two kinds", faults.Calls(sessiontest.OpLoad, sessiontest.OpEnd), 4)
	faults.Clear()
	mustEqual(t, "failed after Clear", touch(), false)
	faults.Set(func(context.Context, sessiontest.Op, func() error) error { return nil })
	if err := store.End(ctx, driver.ID{}); err == nil {
		t.Error("a Fault that neither fails nor makes the call is no error")
	}
}

// TestReadingKeepsACopy: also of a session that another process began, until one has ended it.
func TestReadingKeepsACopy(t *testing.T) {
	shared := memstore.New()
	store, faults := sessiontest.Faulty(shared)
	m := mustNewManager(store, session.Config{})
	other := mustNewManager(shared, session.Config{})
	v := sessiontest.SignedIn(t, other, "ada")
	status := func() int { return v.Do(newShop(m), httptest.NewRequest("GET", "/offers", nil)).Code }
	for _, want := range []int{503, 200, 503} {
		faults.Set(sessiontest.Unavailable)
		mustEqual(t, "status", status(), want)
		faults.Clear()
		if want == 200 {
			other.RevokeUser(t.Context(), "ada")
		}
		mustEqual(t, "status with the store", status(), 200)
	}
}

// TestCopiesGoWithTheirSession: what a sign-out, a sign-in or a revocation ended is not served
// while the store is down.
func TestCopiesGoWithTheirSession(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	m := mustNewManager(store, session.Config{})
	h := newShop(m)
	for name, end := range map[string]func(v *sessiontest.Visitor){
		"nothing": func(*sessiontest.Visitor) {},
		"sign-out": func(v *sessiontest.Visitor) {
			if err := v.Session().SignOut(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"sign-in": func(v *sessiontest.Visitor) {
			if err := v.Session().SignIn(t.Context(), session.Login{User: "ada"}); err != nil {
				t.Error(err)
			}
		},
		"RevokeUser": func(*sessiontest.Visitor) { m.RevokeUser(t.Context(), "ada") },
		"RevokeAll":  func(*sessiontest.Visitor) { m.RevokeAll(t.Context()) },
	} {
		v := sessiontest.SignedIn(t, m, "ada")
		end(v)
		faults.Set(sessiontest.Unavailable)
		want := 503
		if name == "nothing" {
			want = 200
		}
		mustEqual(t, name+": status", v.Do(h, httptest.NewRequest("GET", "/offers", nil)).Code, want)
		faults.Clear()
	}
}
