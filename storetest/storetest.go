package storetest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Harness opens stores for the suite and describes them. Only Open is required.
type Harness struct {
	// Open returns a store without sessions, for one case. It passes to t.Cleanup what must be
	// closed.
	Open func(t testing.TB) driver.Store

	// Wait waits until d has passed by the store's clock. Default: each case runs in a bubble of
	// testing/synctest, and waits with time.Sleep. For a store on a server use time.Sleep.
	Wait func(t testing.TB, d time.Duration)

	// Unit is the idle limit in the cases about time. Such a case waits for a few Units; other
	// limits are multiples of it. A second or two is enough where waiting takes real time. Default:
	// 1h.
	Unit time.Duration

	// Slack is the largest error of a wait and the call after it. It must be less than a quarter of
	// Unit. If a case about time fails and the machine was slower, the case runs again, with Unit
	// and Slack up to eight times as long. Default: 0, so limits hold to the millisecond.
	Slack time.Duration

	// Parallel runs the cases at the same time, to save real time.
	Parallel bool

	// Reopen closes s and opens it again on the same data, as a new process does. Set it if
	// sessions outlive the process.
	Reopen func(t testing.TB, s driver.Store) driver.Store

	// Second opens another client on the data of s, as another process does. Set it if several
	// processes can share the data.
	Second func(t testing.TB, s driver.Store) driver.Store

	// Visible is how long a reader of one client may see old data after another client has changed
	// it, because of a cache. Writers never see old data. Default: 0.
	Visible time.Duration

	// Len returns the number of sessions in s, including expired ones that are not removed yet. Set
	// it to check that nothing is left behind.
	Len func(t testing.TB, s driver.Store) int
}

// Run runs the suite. Each case is a subtest with a new store. Run leaves out cases whose hook is
// not set, cases about users if the store is no driver.UserStore, and cases about optional
// abilities that the store does not have.
func Run(t *testing.T, h Harness) {
	t.Helper()
	run(t, h, cases())
}

func run(t *testing.T, h Harness, all []testCase) {
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
	for _, c := range all {
		if c.needs != nil && !c.needs(&h) || c.users && !users || c.able != nil && !c.able(store) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if h.Parallel {
				t.Parallel()
			}
			if h.Wait != nil {
				c.runOn(t, &h)
				return
			}
			synctest.Test(t, func(t *testing.T) { c.runOn(t, &h) })
		})
	}
}

// testCase tests one promise in one situation.
type testCase struct {
	name  string
	why   string // the promise, and what happens to visitors if it is broken
	run   func(k *kit)
	needs func(h *Harness) bool   // nil: every store
	users bool                    // only for a driver.UserStore
	timed bool                    // depends on limits of a few Units: see attempt
	able  func(driver.Store) bool // only for a store with an optional ability; nil: every store
}

func (c *testCase) runOn(t *testing.T, h *Harness) {
	defer func() {
		if t.Failed() {
			t.Logf("%s: %s", c.name, c.why)
		}
	}()
	if c.timed && h.Slack > 0 {
		c.runTimed(t, h)
		return
	}
	c.run(&kit{T: t, h: h, store: h.Open(t)})
}

// cases returns all cases of the suite, in order.
func cases() []testCase {
	var all []testCase
	for _, part := range [][]testCase{
		recordCases, opCases, nameCases, sizeCases, concurrentCases, endCases,
		tokenCases, rotationCases, theftCases, timeCases, contextCases, processCases, watchCases,
	} {
		all = append(all, part...)
	}
	for _, part := range [][]testCase{
		signInCases, limitCases, lifetimeCases, listCases, endUserCases, revokeCases, eventCases, feedCases,
	} {
		for _, c := range part {
			c.users = true
			all = append(all, c)
		}
	}
	for _, c := range userDataCases {
		able := c.able
		c.users, c.able = true, func(s driver.Store) bool { return joins(s) && (able == nil || able(s)) }
		all = append(all, c)
	}
	return all
}
