package storetest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Harness opens stores for the suite and says how their time passes.
type Harness struct {
	// Open returns a store with no sessions, for one case. What it must close it hands to
	// t.Cleanup.
	Open func(t testing.TB) driver.Store

	// Wait lets d pass by the store's clock. With nil each case runs in a bubble of
	// testing/synctest and waiting is time.Sleep there; for a server it is time.Sleep, in earnest.
	Wait func(t testing.TB, d time.Duration)

	// Unit is the idle limit of the cases about time, which wait for a few of it each; others
	// follow from it. Default: one hour. Where waiting is in earnest, a second will do.
	Unit time.Duration

	// Slack is how far a wait and the call after it may be off; less than a quarter of Unit.
	// Default: 0, limits hold to the millisecond.
	Slack time.Duration

	// Parallel runs the cases at the same time, where waiting for them one by one takes long.
	Parallel bool

	// Reopen closes s and opens it again on the same data, as a new process would. nil: sessions
	// end with the process.
	Reopen func(t testing.TB, s driver.Store) driver.Store

	// Second opens another client of the data of s, as another process would. nil: there is only
	// one.
	Second func(t testing.TB, s driver.Store) driver.Store

	// Visible is how long a reader of one client may be shown what another client has changed
	// meanwhile, because it is served from a cache. Default: 0, at once. Writers are never shown
	// old data.
	Visible time.Duration

	// Len returns how many sessions s has, those included that have expired and are not yet
	// removed. nil: the suite does not look for leaks.
	Len func(t testing.TB, s driver.Store) int
}

// Run runs the suite, each case a subtest with a store of its own. Cases for which the harness has
// no hook are left out, and those about users for a store that is no driver.UserStore, and those
// about an optional ability for a store that has it not.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.Open == nil {
		t.Fatal("storetest: Harness.Open is nil")
	}
	if h.Unit == 0 {
		h.Unit = time.Hour
	}
	if h.Slack >= h.Unit/4 {
		t.Fatalf("storetest: Harness.Slack is %v, it must be less than a quarter of Unit, %v", h.Slack, h.Unit)
	}
	store := h.Open(t)
	_, users := store.(driver.UserStore)
	for _, c := range cases() {
		if c.needs != nil && !c.needs(&h) || c.users && !users || c.able != nil && !c.able(store) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if h.Parallel {
				t.Parallel()
			}
			if h.Wait != nil {
				c.on(t, &h)
				return
			}
			synctest.Test(t, func(t *testing.T) { c.on(t, &h) })
		})
	}
}

// testCase is one promise kept in one situation.
type testCase struct {
	name  string
	why   string // the promise, and what happens to visitors when it is broken
	run   func(k *kit)
	needs func(h *Harness) bool   // nil: every store
	users bool                    // it is for a driver.UserStore
	able  func(driver.Store) bool // it is for a store with an optional ability; nil: every store
}

func (c *testCase) on(t *testing.T, h *Harness) {
	defer func() {
		if t.Failed() {
			t.Logf("%s: %s", c.name, c.why)
		}
	}()
	c.run(&kit{T: t, h: h, store: h.Open(t)})
}

// cases returns the suite in the order of its files.
func cases() []testCase {
	var all []testCase
	for _, part := range [][]testCase{
		recordCases, opCases, nameCases, sizeCases, concurrentCases, endCases, tokenCases, rotationCases, timeCases, contextCases, processCases,
	} {
		all = append(all, part...)
	}
	for _, part := range [][]testCase{signInCases, limitCases, endUserCases, revokeCases, eventCases, feedCases} {
		for _, c := range part {
			c.users = true
			all = append(all, c)
		}
	}
	return all
}
