package storetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// limitCases: how many sessions a user may have at the same time.
var limitCases = []testCase{
	{
		name: "limit/oldest",
		why:  "P9: one sign-in too many ends the user's oldest session, no other, and says which.",
		run: func(k *kit) {
			o, other := newOwner(), newOwner()
			keep := k.signIn(other)
			var all []visitor
			for i := range 6 {
				k.pause()
				v := o.visitor()
				res := k.enters(v, o.limited(v, 3, false))
				all = append(all, v)
				if i < 3 {
					if len(res.Evicted) != 0 {
						k.Errorf("sign-in %d of 3 ended %v", i+1, res.Evicted)
					}
					continue
				}
				if !sameIDs(res.Evicted, idsOf(all[i-3])) {
					k.Errorf("sign-in %d ended %v, want %v", i+1, res.Evicted, all[i-3].id)
				}
				k.gone(all[i-3])
				k.hasSessions(o, all[i-2:]...)
			}
			k.hasSessions(other, keep)
		},
	},
	{
		name: "limit/lowered",
		why:  "P9: where the limit has become lower, a sign-in ends as many as are over it, the oldest.",
		run: func(k *kit) {
			o := newOwner()
			all := k.signIns(o, 5)
			k.pause()
			v := o.visitor()
			if res := k.enters(v, o.limited(v, 2, false)); !sameIDs(res.Evicted, idsOf(all[:4]...)) {
				k.Errorf("Result.Evicted is %v, want %v", res.Evicted, idsOf(all[:4]...))
			}
			k.hasSessions(o, all[4], v)
			for _, old := range all[:4] {
				k.gone(old)
			}
		},
	},
	{
		name: "limit/refuse",
		why:  "P9: where the new one is refused, nobody is signed out, and the visitor keeps the session that they had; after a sign-out there is room.",
		run: func(k *kit) {
			o := newOwner()
			all, from := k.signIns(o, 2), k.create(set("cart", `"tea"`))
			k.pause()
			v := o.visitor()
			_ = k.barred(o, v, driver.ErrTooMany, o.limited(v, 2, true, from))
			_ = k.barred(o, v, driver.ErrTooMany, o.limited(v, 1, true, from))
			k.apply(from, add("n", 1))
			k.hasSessions(o, all...)
			k.end(all[0])
			k.enters(v, o.limited(v, 2, true, from))
			k.has(v, "cart", `"tea"`, "n", "1")
			k.hasSessions(o, all[1], v)
		},
	},
	{
		name: "limit/not-counted",
		why:  "P9: what does not count: the session that is replaced, those that ended or expired, those of others.",
		run:  notCounted,
	},
	{
		name: "limit/exact",
		why: "P9: 50 sign-ins at the same time under a limit of 5 that ends the oldest: never are more than 5 alive, not for a moment, and each " +
			"one that ended is told once.",
		run: limitExact,
	},
	{
		name: "limit/exact-refuse",
		why:  "P9: of 50 sign-ins at the same time under a limit of 5 that refuses, 5 succeed.",
		run: func(k *kit) {
			o := newOwner()
			all := o.visitors(50)
			var entered atomic.Int64
			together(len(all), func(i int) {
				_, err := k.users().SignIn(k.Context(), all[i].id, o.limited(all[i], 5, true))
				if err == nil {
					entered.Add(1)
				} else if !errors.Is(err, driver.ErrTooMany) {
					k.Errorf("SignIn: %v, want ErrTooMany", err)
				}
			})
			if n := len(k.listed(o)); entered.Load() != 5 || n != 5 {
				k.Errorf("%d sign-ins succeeded, and the user has %d sessions, want 5", entered.Load(), n)
			}
		},
	},
	{
		name: "limit/against-renewal",
		why: "P9: a user who signs in again while another request renews their token has one session of one allowed: the one that is replaced is " +
			"left out of the count only if it goes.",
		run: func(k *kit) {
			for range 100 {
				o := newOwner()
				from, v := k.signIn(o), o.visitor()
				next := from.with(newHash())
				together(2, func(i int) {
					if i == 0 {
						if _, err := k.users().SignIn(k.Context(), v.id, o.limited(v, 1, false, from)); err != nil {
							k.Errorf("SignIn: %v", err)
						}
						return
					}
					for range 50 {
						_, err := k.store.Apply(k.Context(), from.id, from.renewal(next.verifier))
						if err != nil && !errors.Is(err, driver.ErrMoved) && !errors.Is(err, driver.ErrNotFound) {
							k.Errorf("Apply: %v", err)
						}
					}
				})
				if n := len(k.listed(o)); n != 1 {
					k.Fatalf("the user has %d sessions, want 1", n)
				}
			}
		},
	},
}

// visitors are browsers of the user.
func (o owner) visitors(n int) []visitor {
	all := make([]visitor, n)
	for i := range all {
		all[i] = o.visitor()
	}
	return all
}

func notCounted(k *kit) {
	for _, refuse := range []bool{true, false} {
		o := newOwner()
		short := o.visitor()
		in := o.login(short)
		in.Spec.Idle, in.Spec.Lifetime = k.h.Unit, k.h.Unit
		k.enters(short, in)
		k.at(k.load(short).Deadline)
		k.end(k.signIn(o))
		k.signIn(newOwner())
		k.pause()
		enter := func(from ...visitor) visitor {
			k.Helper()
			k.pause()
			v := o.visitor()
			if res := k.enters(v, o.limited(v, 2, refuse, from...)); len(res.Evicted) != 0 {
				k.Errorf("Result.Evicted is %v", res.Evicted)
			}
			return v
		}
		anonymous := k.create()
		a, b := enter(), enter(anonymous)
		c := enter(a)
		d := enter(b)
		k.hasSessions(o, c, d)
		k.pause()
		v, thief := o.visitor(), c.with(newHash()) // shows the id of a session that it does not replace
		if refuse {
			_ = k.barred(o, v, driver.ErrTooMany, o.limited(v, 2, true, thief))
			k.hasSessions(o, c, d)
			continue
		}
		if res := k.enters(v, o.limited(v, 2, false, thief)); !sameIDs(res.Evicted, idsOf(c)) {
			k.Errorf("Result.Evicted is %v, want %v", res.Evicted, c.id)
		}
		k.hasSessions(o, d, v)
	}
}

func limitExact(k *kit) {
	const most = 5
	o := newOwner()
	all := o.visitors(50)
	var done atomic.Bool
	var watchers sync.WaitGroup
	for range 2 {
		watchers.Go(func() {
			for !done.Load() {
				if n := k.atOnce(all); n > most {
					k.Errorf("%d sessions were alive at the same time, and %d are allowed", n, most)
					return
				}
				list, err := k.users().Sessions(k.Context(), o.hash)
				if err != nil || len(list) > most {
					k.Errorf("Sessions: %d, error %v", len(list), err)
					return
				}
				time.Sleep(time.Microsecond) // see concurrent/whole-changes
			}
		})
	}
	var mu sync.Mutex
	evicted := map[driver.ID]int{}
	together(len(all), func(i int) {
		res, err := k.users().SignIn(k.Context(), all[i].id, o.limited(all[i], most, false))
		if err != nil {
			k.Errorf("SignIn: %v", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, id := range res.Evicted {
			evicted[id]++
		}
	})
	done.Store(true)
	watchers.Wait()
	live := k.listed(o)
	if len(live) != most || len(evicted) != len(all)-most {
		k.Errorf("%d sessions are alive, and %d different ones are told to have ended, of %d", len(live), len(evicted), len(all))
	}
	for id, n := range evicted {
		if n != 1 {
			k.Errorf("the end of %v is told %d times", id, n)
		}
	}
	for _, id := range live {
		if evicted[id] != 0 {
			k.Errorf("%v is alive, and was told to have ended", id)
		}
	}
}
