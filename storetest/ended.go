package storetest

import (
	"errors"
	"sync/atomic"

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
