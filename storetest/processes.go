package storetest

import (
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

func canReopen(h *Harness) bool { return h.Reopen != nil }
func shared(h *Harness) bool    { return h.Second != nil }

// processCases: stores that outlive their process, and stores that several processes share.
var processCases = []testCase{
	{
		name: "reopen/acknowledged",
		why: "P1, P2: After a restart every acknowledged change is there, exactly, and every ended session has " +
			"ended.",
		needs: canReopen,
		run:   reopenAcknowledged,
	},
	{
		name: "reopen/repeated",
		why: "P1: A node repeats a call whose outcome it does not know, and the store was restarted in " +
			"between. Nothing is done twice.",
		needs: canReopen,
		run: func(k *kit) {
			v := newVisitor()
			o, c := v.spec(longIdle, longLifetime), v.change(add("n", 1))
			next := v.with(newHash())
			renewal := v.renewal(next.verifier, add("n", 1))
			for range 2 {
				if _, err := k.store.Create(k.Context(), v.id, o, c); err != nil {
					k.Fatalf("Create: %v", err)
				}
				k.reopen()
			}
			for range 2 {
				k.applyChange(v, renewal)
				k.reopen()
			}
			k.mustHave(v, "n", "2")
			k.mustRefuse(v, driver.ErrMoved, v.change())
		},
	},
	{
		name: "reopen/limits",
		why: "P5: Limits hold across a restart, also while no process runs, and the store's time does not go " +
			"back.",
		needs: canReopen,
		timed: true,
		run:   limitsHoldAcross,
	},
	{
		name: "reopen/under-load",
		why: "P1, P2: Many sessions change and end at the same time. After a restart each is as it was last " +
			"acknowledged.",
		needs: canReopen,
		run: func(k *kit) {
			const n = 300
			all := make([]visitor, n)
			concurrently(16, func(worker int) {
				for i := worker; i < n; i += 16 {
					v := newVisitor()
					all[i] = v
					if _, err := k.tryCreate(v, add("n", 1)); err != nil {
						k.Errorf("Create: %v", err)
						continue
					}
					for range i % 5 {
						c := v.change(add("n", 1), set("i", strconv.Itoa(i)))
						if _, err := k.store.Apply(k.Context(), v.id, c); err != nil {
							k.Errorf("Apply: %v", err)
						}
					}
					if i%3 == 0 {
						if err := k.store.End(k.Context(), v.id); err != nil {
							k.Errorf("End: %v", err)
						}
					}
				}
			})
			k.reopen()
			for i, v := range all {
				switch {
				case i%3 == 0:
					k.mustBeEnded(v)
				case i%5 == 0:
					k.mustHave(v, "n", "1")
				default:
					k.mustHave(v, "n", strconv.Itoa(1+i%5), "i", strconv.Itoa(i))
				}
			}
		},
	},
	{
		name: "second/sees",
		why: "P8: Readers of another process see a change within the stated time, and its writers see it at " +
			"once.",
		needs: shared,
		run: func(k *kit) {
			other := k.other()
			v := k.create(set("theme", `"dark"`))
			k.eventually("a created session", func() bool {
				r, _, err := other.store.Load(k.Context(), v.id)
				return err == nil && r.Revision == 1
			})
			k.apply(v, set("theme", `"lite"`))
			k.eventually("a change", func() bool {
				r, _, err := other.store.Load(k.Context(), v.id)
				return err == nil && r.Revision == 2 && same(r, k.load(v))
			})
			res, err := other.store.Apply(k.Context(), v.id, v.change(swap("theme", `"lite"`, `"dark"`)))
			if err != nil || res == nil {
				k.Errorf("Apply by the other process: %v", err)
			}
			k.eventually("the other one's change", func() bool { r := k.load(v); return r.Revision == 3 })
		},
	},
	{
		name: "second/ended",
		why: "P2: After a sign-out in one process, every other process refuses writes at once, and its readers " +
			"find nothing within the stated time.",
		needs: shared,
		run: func(k *kit) {
			other := k.other()
			for range 20 {
				v := k.create()
				k.eventuallyVisible(other, v)
				k.end(v)
				other.mustBeEndedElsewhere(k, v)
				other.mustBeEnded(v)
				k.mustBeEnded(v)
			}
		},
	},
	{
		name:  "second/renewed",
		why:   "P3: The writers of every process refuse at once a token that was renewed in another.",
		needs: shared,
		run: func(k *kit) {
			other := k.other()
			v := k.create()
			k.eventuallyVisible(other, v)
			next := v.with(newHash())
			k.applyChange(v, v.renewal(next.verifier))
			if _, err := other.store.Apply(k.Context(), v.id, v.change(add("n", 1))); !errors.Is(err, driver.ErrMoved) {
				k.Errorf("Apply by the other process: %v, want ErrMoved", err)
			}
			if _, err := other.store.Apply(k.Context(), v.id, next.change(add("n", 1))); err != nil {
				k.Errorf("Apply with the new token by the other process: %v", err)
			}
		},
	},
	{
		name: "second/together",
		why: "P1: Increments, takes and swaps of several processes on one session lose nothing, and no value " +
			"is taken twice.",
		needs: shared,
		run: func(k *kit) {
			both := []*kit{k, k.other()}
			v := k.create(set("once", "1"), set("swapped", "0"))
			var taken atomic.Int64
			concurrently(16, func(i int) {
				mine := both[i%2]
				for range 25 {
					if _, err := mine.store.Apply(k.Context(), v.id, v.change(add("n", 1))); err != nil {
						k.Errorf("Apply: %v", err)
					}
				}
				mine.swapUntilDone(v, "swapped")
				res, err := mine.store.Apply(k.Context(), v.id, v.change(take("once")))
				if err != nil {
					k.Errorf("Apply: %v", err)
				} else if len(res.Values) == 1 && res.Values[0] != nil {
					taken.Add(1)
				}
			})
			if taken.Load() != 1 {
				k.Errorf("%d requests took the value, want 1", taken.Load())
			}
			for _, mine := range both {
				k.eventually("all changes", func() bool {
					n, _ := mine.load(v).Fields.Get("n")
					return string(n) == "400"
				})
			}
			k.eventually("the last change", func() bool { return k.load(v).Revision == 1+400+16+16 })
			k.mustHave(v, "n", "400", "swapped", "16")
		},
	},
}

func reopenAcknowledged(k *kit) {
	v := newVisitor()
	o := v.spec(longIdle, longLifetime)
	o.Principal = &driver.Principal{
		User: "ada", Authenticated: time.UnixMilli(1_700_000_000_000), Methods: []string{"pwd"},
	}
	c := v.change(set("theme", `"dark"`), set("m:\x00é", "\xff"), set("empty", ""))
	if _, err := k.store.Create(k.Context(), v.id, o, c); err != nil {
		k.Fatal(err)
	}
	k.apply(v, add("visits", 1<<53+1), set("taken", `1`))
	k.apply(v, take("taken"))
	renewed, rotated, confirmed := k.create(), k.create(), k.create()
	k.applyChange(renewed, renewed.renewal(newHash()))
	k.applyChange(rotated, rotated.rotation(newHash(), time.Hour))
	next := confirmed.with(newHash())
	k.applyChange(confirmed, confirmed.rotation(next.verifier, time.Hour))
	k.apply(next)
	ended := k.create(set("theme", `"dark"`))
	k.end(ended)
	all := []visitor{v, renewed, rotated, confirmed}
	before := make([]*driver.Record, len(all))
	for i, v := range all {
		before[i] = k.load(v)
	}
	for range 2 {
		k.reopen()
		for i, v := range all {
			if after := k.load(v); !same(before[i], after) {
				k.Errorf("after reopening the record is %s\nbefore it was %s", text(after), text(before[i]))
			}
		}
		k.mustBeEnded(ended)
	}
	k.mustRefuse(renewed, driver.ErrMoved, renewed.change())
	k.apply(rotated, add("n", 1))
	k.apply(confirmed, add("n", 1))
	k.mustReturn(k.apply(v, add("visits", 1)), "9007199254740994")
	if got, want := k.load(v).Revision, before[0].Revision+1; got != want {
		k.Errorf("the revision is %d, want %d", got, want)
	}
	k.end(v)
	k.reopen()
	k.mustBeEnded(v)
}

// reopen restarts the store.
func (k *kit) reopen() {
	k.Helper()
	k.store = k.h.Reopen(k.T, k.store)
}

// other returns the kit of another process on the same data.
func (k *kit) other() *kit {
	k.Helper()
	return &kit{T: k.T, h: k.h, store: k.h.Second(k.T, k.store), attempt: k.attempt}
}

// eventually waits until ok returns true, for Harness.Visible at most.
func (k *kit) eventually(what string, ok func() bool) {
	k.Helper()
	pause := min(time.Millisecond, k.h.Visible/10+1)
	for start := time.Now(); ; time.Sleep(pause) {
		k.planned(pause)
		late := time.Since(start) > k.h.Visible
		if ok() {
			return
		}
		if late {
			k.Fatalf("%s was not seen within %v", what, k.h.Visible)
		}
	}
}

// eventuallyVisible waits until the readers of another process find the session.
func (k *kit) eventuallyVisible(other *kit, v visitor) {
	k.Helper()
	k.eventually("a created session", func() bool {
		_, _, err := other.store.Load(k.Context(), v.id)
		return err == nil
	})
}

// eventuallyEnded waits until the readers of another process no longer find the session.
func (k *kit) eventuallyEnded(other *kit, v visitor) {
	k.Helper()
	k.eventually("an end", func() bool {
		_, _, err := other.store.Load(k.Context(), v.id)
		return errors.Is(err, driver.ErrNotFound)
	})
}

func limitsHoldAcross(k *kit) {
	u := k.h.Unit
	idle, late := k.createFor(u, 8*u), k.createFor(8*u, 3*u)
	idleEnds, lateEnds := k.load(idle).Created.Add(u), k.load(late).Deadline
	before := k.now()
	k.reopen()
	if now := k.now(); now.Before(before) {
		k.Errorf("the store's time went back from %v to %v", before, now)
	}
	k.waitUntilJustBefore(idleEnds)
	k.load(idle)
	k.waitUntil(idleEnds)
	k.reopen()
	k.mustBeEnded(idle)
	k.apply(late, add("n", 1))
	k.reopen()
	k.waitUntilJustBefore(lateEnds)
	k.load(late)
	k.waitUntil(lateEnds)
	k.mustBeEnded(late)
	k.reopen()
	k.mustBeEnded(late)
}
