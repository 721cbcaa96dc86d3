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
		why: "P1: 400 increments, 16 at a time, are 400. The libraries before this one lost about half: they read the session, " +
			"changed it, and wrote it back whole.",
		run: func(k *kit) {
			v := k.create()
			var mu sync.Mutex
			seen := map[string]int{}
			together(16, func(int) {
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
			k.has(v, "n", "400")
			if len(seen) != 400 {
				k.Errorf("the results name %d different counts, want 400: each increment its own", len(seen))
			}
			if got := k.load(v).Revision; got != 401 {
				k.Errorf("the revision after 400 changes is %d, want 401", got)
			}
		},
	},
	{
		name: "concurrent/different-fields",
		why:  "P1: requests that change different fields, and different entries of one map, all take effect.",
		run: func(k *kit) {
			v := k.create()
			var want []string
			for i := range 50 {
				want = append(want, "f"+strconv.Itoa(i), "9", "m:"+strconv.Itoa(i), "9")
			}
			together(50, func(i int) {
				n := strconv.Itoa(i)
				for round := range 10 {
					c := v.change(set(driver.Key("f"+n), strconv.Itoa(round)), set(driver.Key("m:"+n), strconv.Itoa(round)))
					if _, err := k.store.Apply(k.Context(), v.id, c); err != nil {
						k.Errorf("Apply: %v", err)
					}
				}
			})
			k.has(v, want...)
		},
	},
	{
		name: "concurrent/take",
		why:  "P1: of 50 requests that take one value exactly one gets it: a payment is not made twice.",
		run: func(k *kit) {
			v := k.create()
			for round := range 10 {
				k.apply(v, set("once", `"it"`))
				var got atomic.Int64
				together(50, func(int) {
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
			k.has(v)
		},
	},
	{
		name: "concurrent/compare-and-set",
		why:  "P1: 50 requests that each read, compute and swap until it succeeds lose nothing; a failed comparison tells the value to go on with.",
		run: func(k *kit) {
			v := k.create(set("n", "0"))
			together(50, func(int) {
				for range 4 {
					k.swapUntilDone(v, "n")
				}
			})
			k.has(v, "n", "200")
		},
	},
	{
		name: "concurrent/within",
		why:  "P1: a bounded counter that 50 requests draw on gives out exactly what there is.",
		run: func(k *kit) {
			v := k.create(set("stock", "20"))
			var got atomic.Int64
			together(50, func(int) {
				_, err := k.store.Apply(k.Context(), v.id, v.change(addWithin("stock", -1, 0, 20), add("sold", 1)))
				if err == nil {
					got.Add(1)
				} else if !errors.Is(err, driver.ErrConflict) {
					k.Errorf("Apply: %v", err)
				}
			})
			if got.Load() != 20 {
				k.Errorf("%d requests drew one of 20", got.Load())
			}
			k.has(v, "stock", "0", "sold", "20")
		},
	},
	{
		name: "concurrent/whole-changes",
		why:  "P1: a change is seen whole or not at all: no reader sees one of its fields without the other.",
		run: func(k *kit) {
			v := k.create(set("a", "0"), set("b", "0"))
			together(8, func(i int) {
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
						k.Errorf("a reader saw a=%s b=%s", a, b)
					}
					time.Sleep(time.Microsecond) // a store that sleeps half-way through does so in a bubble only if all do
				}
			})
		},
	},
	{
		name: "concurrent/own-writes",
		why:  "Who was told that a change is stored sees it from then on, and never an older record: the page after a form shows what was sent.",
		run: func(k *kit) {
			v := k.create()
			together(8, func(i int) {
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

// swapUntilDone adds 1 as Value.Update does.
func (k *kit) swapUntilDone(v visitor, key driver.Key) {
	present := []byte("0") // a first guess, often old
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
	k.Error("a swap failed 10,000 times")
}

// together runs f n times at the same time, and returns when all are done.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, i := range rand.Perm(n) { // the scheduler likes to begin with the last
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}
