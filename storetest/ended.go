package storetest

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// endCases: an ended session stays ended.
var endCases = []testCase{
	{
		name: "end/gone",
		why:  "P2: After a sign-out nobody finds the session. Ending it again is no error.",
		run: func(k *kit) {
			v := k.create(set("theme", `"dark"`))
			k.end(v)
			k.mustBeEnded(v)
			k.end(v)
			k.mustBeEnded(v)
		},
	},
	{
		name: "end/slow-writer",
		why: "P2: A request that read the session before the sign-out and writes after it is refused, and its " +
			"write creates nothing. With the libraries before this one, the session came back.",
		run: func(k *kit) {
			v := k.create(set("user", `"ada"`))
			k.load(v) // the slow request reads
			k.end(v)
			_, err := k.store.Apply(k.Context(), v.id, v.change(set("late", `1`), add("visits", 1)))
			if !errors.Is(err, driver.ErrNotFound) {
				k.Errorf("Apply after End: %v, want ErrNotFound", err)
			}
			k.mustBeEnded(v)
		},
	},
	{
		name: "end/touch-in-flight",
		why: "P2: The touch of a page that was read before the sign-out arrives after it. It must not bring " +
			"the session back.",
		timed: true,
		run: func(k *kit) {
			idle := k.h.Unit
			v := k.createFor(idle, 4*idle)
			k.wait(idle / 2)
			if r, now := k.loadAt(v); !r.TouchDue(v.verifier, now) {
				k.Fatal("no touch is due after half the idle limit")
			}
			k.end(v)
			if err := k.store.Touch(k.Context(), v.id, v.verifier); !errors.Is(err, driver.ErrNotFound) {
				k.Errorf("Touch after End: %v, want ErrNotFound", err)
			}
			k.mustBeEnded(v)
		},
	},
	{
		name: "end/against-writers",
		why: "P2: A sign-out runs among writes, touches and renewals. Once End has returned nil, there is no " +
			"session, whichever call came last. The case runs many rounds, because it is a race.",
		run: func(k *kit) {
			for range 100 {
				v := k.create()
				concurrently(7, func(i int) {
					var err error
					switch i {
					case 0:
						err = k.store.End(k.Context(), v.id)
						if _, _, loadErr := k.store.Load(k.Context(), v.id); !errors.Is(loadErr, driver.ErrNotFound) {
							k.Errorf("Load right after End: %v, want ErrNotFound", loadErr)
						}
					case 1:
						err = k.store.Touch(k.Context(), v.id, v.verifier)
					case 2:
						_, err = k.store.Apply(k.Context(), v.id, v.renewal(newHash()))
					default:
						for range 5 {
							if _, err = k.store.Apply(k.Context(), v.id, v.change(add("n", 1))); err != nil {
								break
							}
						}
					}
					if err != nil && !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, driver.ErrMoved) {
						k.Errorf("goroutine %d: %v", i, err)
					}
				})
				k.mustBeEnded(v)
				if k.Failed() {
					return
				}
			}
		},
	},
	{
		name: "end/no-write-after",
		why: "P2: A write is acknowledged before the end or refused after it. No write that begins after End " +
			"has returned is acknowledged.",
		run: func(k *kit) {
			for range 50 {
				v := k.create()
				var ended atomic.Bool
				concurrently(5, func(i int) {
					if i == 0 {
						if err := k.store.End(k.Context(), v.id); err != nil {
							k.Errorf("End: %v", err)
						}
						ended.Store(true)
						return
					}
					for range 1000 {
						before := ended.Load()
						if _, err := k.store.Apply(k.Context(), v.id, v.change(add("n", 1))); err != nil {
							return
						} else if before {
							k.Error("a write that began after End was acknowledged")
							return
						}
					}
				})
			}
		},
	},
	{
		name: "end/reported",
		why: "P2: A request that began before a sign-out and reads after it learns that its session has just " +
			"ended. It is not a new visitor, so it creates no session and sets no cookie over a newer one.",
		run: func(k *kit) {
			v := k.create(set("theme", `"dark"`))
			k.mustReportEnd(k.store, func() { k.end(v) }, v)
			if store, ok := k.store.(driver.EndReporter); ok {
				v := k.create()
				k.mustReportEnd(k.store, func() {
					if _, err := store.EndAndReport(k.Context(), v.id, driver.Hash{}, newAttempt()); err != nil {
						k.Errorf("EndAndReport: %v", err)
					}
				}, v)
			}
		},
	},
	{
		name: "end/reported-for-a-while",
		why: "P2: An end is reported as long as requests run that may have begun before it. After that, the id " +
			"is unknown. A second end does not extend that time.",
		needs: func(h *Harness) bool { return h.Unit >= driver.SupersededFor },
		run: func(k *kit) {
			v := k.create()
			before := k.now()
			k.end(v)
			after := k.now()
			k.wait(driver.SupersededFor / 2)
			k.end(v)
			k.waitUntilJustBefore(before.Add(driver.SupersededFor))
			if _, _, err := k.store.Load(k.Context(), v.id); !errors.Is(err, driver.ErrEnded) {
				k.Errorf("Load just before the end of SupersededFor: %v, want ErrEnded", err)
			}
			k.waitUntil(after.Add(driver.SupersededFor + time.Second))
			k.mustNotReportEnd(v)
		},
	},
	{
		name: "end/not-reported",
		why: "P2, P10: Only a live session leaves a marker when it ends. An expired one does not, and neither " +
			"does one that never existed: a flood of made-up tokens must not fill the store.",
		timed: true,
		run: func(k *kit) {
			// A process that has lost the reply to its end keeps the end for a while.
			seen := k
			if shared(k.h) {
				seen = k.other()
			}
			unknown := newVisitor()
			k.mustNotReportEnd(unknown)
			k.end(unknown)
			seen.mustNotReportEnd(unknown)
			if store, ok := k.store.(driver.EndReporter); ok {
				unknown := newVisitor()
				ended, err := store.EndAndReport(k.Context(), unknown.id, driver.Hash{}, newAttempt())
				if ended || err != nil {
					k.Errorf("EndAndReport of an unknown session: %v, %v, want false and no error", ended, err)
				}
				seen.mustNotReportEnd(unknown)
			}
			expired := k.createFor(k.h.Unit, k.h.Unit)
			k.waitUntil(k.load(expired).Expires())
			seen.mustNotReportEnd(expired)
			k.end(expired)
			seen.mustNotReportEnd(expired)
		},
	},
	{
		name: "end/reported-to-others",
		why: "P2: A process learns that a session has just ended, although another process ended it: the " +
			"requests of a browser run on all nodes.",
		needs: shared,
		run: func(k *kit) {
			other := k.other()
			v := k.create()
			other.load(v)
			k.mustReportEnd(other.store, func() {
				k.end(v)
				k.eventuallyEnded(other, v)
			}, v)
		},
	},
	{
		name: "end/leaves-nothing",
		why: "P10: Ended sessions leave nothing behind. Otherwise a store that runs long enough is full of " +
			"them.",
		needs: func(h *Harness) bool {
			return h.Len != nil
		},
		run: func(k *kit) {
			keep := k.create()
			for range 300 {
				v := k.create(set("theme", `"dark"`))
				k.apply(v, add("n", 1))
				k.end(v)
				k.end(v)
				k.end(newVisitor())
			}
			if got := k.h.Len(k.T, k.store); got != 1 {
				k.Errorf("the store has %d sessions, want 1", got)
			}
			k.load(keep)
		},
	},
}

// mustReportEnd calls end, which must end v, and checks that the store then reports when v ended.
func (k *kit) mustReportEnd(s driver.Store, end func(), v visitor) {
	k.Helper()
	before := k.now()
	end()
	d := k.h.Unit / 100
	k.wait(d)
	_, now, err := s.Load(k.Context(), v.id)
	var ended *driver.EndedError
	if !errors.As(err, &ended) || !errors.Is(err, driver.ErrEnded) || !errors.Is(err, driver.ErrNotFound) {
		k.Errorf("Load after the end: %v, want an *EndedError", err)
		return
	}
	least, most := d-k.h.Slack, now.Sub(before)+k.h.Slack+time.Millisecond
	if ended.Ago < least || ended.Ago > most {
		k.Errorf("the session is reported to have ended %v ago, want %v to %v", ended.Ago, least, most)
	}
}

// mustNotReportEnd checks that the session is unknown.
func (k *kit) mustNotReportEnd(v visitor) {
	k.Helper()
	_, _, err := k.store.Load(k.Context(), v.id)
	if !errors.Is(err, driver.ErrNotFound) || errors.Is(err, driver.ErrEnded) {
		k.Errorf("Load: %v, want ErrNotFound and not ErrEnded", err)
	}
}

func newAttempt() driver.Attempt { return driver.Attempt(newHash()) }
