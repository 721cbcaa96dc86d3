package storetest

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// concurrentCases: requests of one session at the same time.
var concurrentCases = []testCase{
	{
		name: "concurrent/increments",
		why: "P1: 400 increments, 16 at a time, add up to 400. The libraries before this one lost about half: " +
			"they read the session, changed it, and wrote it back as a whole.",
		run: func(k *kit) {
			v := k.create()
			var mu sync.Mutex
			seen := map[string]int{}
			concurrently(16, func(int) {
				for range 25 {
					res, err := k.store.Apply(k.Context(), v.id, v.change(add("n", 1)))
					if err != nil {
						k.Errorf("Apply: %v", err)
						return
					}
					mu.Lock()
					seen[string(res.Values[0])]++
					mu.Unlock()
				}
			})
			k.mustHave(v, "n", "400")
			if len(seen) != 400 {
				k.Errorf("the results have %d different sums, want 400", len(seen))
			}
			if got := k.load(v).Revision; got != 401 {
				k.Errorf("the revision after 400 changes is %d, want 401", got)
			}
		},
	},
	{
		name: "concurrent/different-fields",
		why:  "P1: Requests that change different fields, or different entries of one map, all take effect.",
		run: func(k *kit) {
			v := k.create()
			var want []string
			for i := range 50 {
				want = append(want, "f"+strconv.Itoa(i), "9", "m:"+strconv.Itoa(i), "9")
			}
			concurrently(50, func(i int) {
				n := strconv.Itoa(i)
				for round := range 10 {
					c := v.change(set(driver.Key("f"+n), strconv.Itoa(round)), set(driver.Key("m:"+n), strconv.Itoa(round)))
					if _, err := k.store.Apply(k.Context(), v.id, c); err != nil {
						k.Errorf("Apply: %v", err)
					}
				}
			})
			k.mustHave(v, want...)
		},
	},
	{
		name: "concurrent/take",
		why:  "P1: Of 50 requests that take one value, exactly one gets it. A payment is not made twice.",
		run: func(k *kit) {
			v := k.create()
			for round := range 10 {
				k.apply(v, set("once", `"it"`))
				var got atomic.Int64
				concurrently(50, func(int) {
					res, err := k.store.Apply(k.Context(), v.id, v.change(take("once")))
					switch {
					case err != nil:
						k.Errorf("Apply: %v", err)
					case len(res.Values) == 1 && string(res.Values[0]) == `"it"`:
						got.Add(1)
					case len(res.Values) > 1 || len(res.Values) == 1 && res.Values[0] != nil:
						k.Errorf("Result.Values is %q", res.Values)
					}
				})
				if got.Load() != 1 {
					k.Fatalf("round %d: %d requests got the value, want 1", round, got.Load())
				}
			}
			k.mustHave(v)
		},
	},
	{
		name: "concurrent/compare-and-set",
		why: "P1: 50 requests that read, compute and swap until they succeed lose nothing. A failed comparison " +
			"returns the present value.",
		run: func(k *kit) {
			v := k.create(set("n", "0"))
			concurrently(50, func(int) {
				for range 4 {
					k.swapUntilDone(v, "n")
				}
			})
			k.mustHave(v, "n", "200")
		},
	},
	{
		name: "concurrent/within",
		why:  "P1: 50 requests that draw on a bounded counter get exactly what there is.",
		run: func(k *kit) {
			v := k.create(set("stock", "20"))
			var got atomic.Int64
			concurrently(50, func(int) {
				_, err := k.store.Apply(k.Context(), v.id, v.change(addWithin("stock", -1, 0, 20), add("sold", 1)))
				if err == nil {
					got.Add(1)
				} else if !errors.Is(err, driver.ErrConflict) {
					k.Errorf("Apply: %v", err)
				}
			})
			if got.Load() != 20 {
				k.Errorf("%d requests succeeded, want 20", got.Load())
			}
			k.mustHave(v, "stock", "0", "sold", "20")
		},
	},
	{
		name: "concurrent/limit",
		why:  "P1: 50 requests that add entries to a limited map fill it exactly.",
		run: func(k *kit) {
			v := k.create(set("m:first", "0"))
			var got atomic.Int64
			concurrently(50, func(i int) {
				key := driver.EntryKey("m", strconv.Itoa(i))
				_, err := k.store.Apply(k.Context(), v.id, v.change(set(key, "1"), add("added", 1), limit("m", 20)))
				if err == nil {
					got.Add(1)
				} else if !errors.Is(err, driver.ErrFull) {
					k.Errorf("Apply: %v", err)
				}
			})
			if r := k.load(v); got.Load() != 19 || len(entries(r, "m")) != 20 {
				k.Errorf("%d requests succeeded and the map has %d entries, want 19 and 20", got.Load(), len(entries(r, "m")))
			}
		},
	},
	{
		name: "concurrent/whole-changes",
		why:  "P1: A reader sees a change completely or not at all, never one of its fields without the other.",
		run: func(k *kit) {
			v := k.create(set("a", "0"), set("b", "0"))
			concurrently(8, func(i int) {
				for round := range 50 {
					if i < 4 {
						n := strconv.Itoa(i*1000 + round)
						if _, err := k.store.Apply(k.Context(), v.id, v.change(set("a", n), set("b", n))); err != nil {
							k.Errorf("Apply: %v", err)
						}
						continue
					}
					r, _, err := k.store.Load(k.Context(), v.id)
					if err != nil {
						k.Errorf("Load: %v", err)
						return
					}
					a, _ := r.Fields.Get("a")
					b, _ := r.Fields.Get("b")
					if string(a) != string(b) {
						k.Errorf("a reader saw a=%s b=%s, want equal values", a, b)
					}
					yieldInBubble()
				}
			})
		},
	},
	{
		name: "concurrent/own-writes",
		why: "Once a change is acknowledged, its author sees it, and never an older record. The page after a " +
			"form shows what was sent.",
		run: func(k *kit) {
			v := k.create()
			concurrently(8, func(i int) {
				key := driver.Key("f" + strconv.Itoa(i))
				var revision uint64
				for round := range 50 {
					if _, err := k.store.Apply(k.Context(), v.id, v.change(set(key, strconv.Itoa(round)))); err != nil {
						k.Errorf("Apply: %v", err)
						return
					}
					r, _, err := k.store.Load(k.Context(), v.id)
					if err != nil {
						k.Errorf("Load: %v", err)
						return
					}
					if got, _ := r.Fields.Get(key); string(got) != strconv.Itoa(round) {
						k.Errorf("after writing %d the value is %q", round, got)
					}
					if r.Revision <= revision {
						k.Errorf("revision %d was read after %d", r.Revision, revision)
					}
					revision = r.Revision
				}
			})
		},
	},
}

// swapUntilDone adds 1 in the way of Value.Update.
func (k *kit) swapUntilDone(v visitor, key driver.Key) {
	present := []byte("0") // a guess that is often outdated
	for range 10_000 {
		n, ok := driver.ParseInt(present)
		if !ok {
			k.Errorf("the value is %q", present)
			return
		}
		_, err := k.store.Apply(k.Context(), v.id, v.change(swap(key, string(present), decimal(n+1))))
		if err == nil {
			return
		}
		var op *driver.OpError
		if !errors.As(err, &op) || !errors.Is(err, driver.ErrConflict) {
			k.Errorf("Apply: %v", err)
			return
		}
		present = op.Present
	}
	k.Error("Swap failed 10,000 times")
}

// concurrently runs f n times at the same time, and returns when all calls have returned.
func concurrently(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, i := range rand.Perm(n) { // because the scheduler prefers to start the last goroutine
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// yieldInBubble lets the other goroutines of a bubble run. Time passes there only while all
// goroutines sleep. So a store that sleeps in the middle of a change, which is a defect, continues
// only if the readers that should notice it sleep, too.
func yieldInBubble() { time.Sleep(time.Microsecond) }
