package storetest

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/coatcheck-go/session/driver"
)

// limitCases: how many sessions a user may have at the same time.
var limitCases = []testCase{
	{
		name: "limit/oldest",
		why:  "P9: One sign-in over the limit ends the user's oldest session and no other, and reports which.",
		run: func(k *kit) {
			o, other := newOwner(), newOwner()
			keep := k.signIn(other)
			var all []visitor
			for i := range 6 {
				k.pause()
				v := o.visitor()
				res := k.mustSignIn(v, o.limited(v, 3, false))
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
				k.mustBeEnded(all[i-3])
				k.mustHaveSessions(o, all[i-2:]...)
			}
			k.mustHaveSessions(other, keep)
		},
	},
	{
		name: "limit/lowered",
		why:  "P9: If the limit was lowered, a sign-in ends as many of the oldest sessions as are over it.",
		run: func(k *kit) {
			o := newOwner()
			all := k.signIns(o, 5)
			k.pause()
			v := o.visitor()
			if res := k.mustSignIn(v, o.limited(v, 2, false)); !sameIDs(res.Evicted, idsOf(all[:4]...)) {
				k.Errorf("Result.Evicted is %v, want %v", res.Evicted, idsOf(all[:4]...))
			}
			k.mustHaveSessions(o, all[4], v)
			for _, old := range all[:4] {
				k.mustBeEnded(old)
			}
		},
	},
	{
		name: "limit/refuse",
		why: "P9: With RefuseExtra nobody is signed out, and the visitor keeps the old session. After a " +
			"sign-out there is room again.",
		run: func(k *kit) {
			o := newOwner()
			all, from := k.signIns(o, 2), k.create(set("cart", `"tea"`))
			k.pause()
			v := o.visitor()
			_ = k.mustRefuseSignIn(o, v, driver.ErrTooMany, o.limited(v, 2, true, from))
			_ = k.mustRefuseSignIn(o, v, driver.ErrTooMany, o.limited(v, 1, true, from))
			k.apply(from, add("n", 1))
			k.mustHaveSessions(o, all...)
			k.end(all[0])
			k.mustSignIn(v, o.limited(v, 2, true, from))
			k.mustHave(v, "cart", `"tea"`, "n", "1")
			k.mustHaveSessions(o, all[1], v)
		},
	},
	{
		name: "limit/not-counted",
		why: "P9: The limit does not count the session that is replaced, sessions that ended or expired, and " +
			"other users' sessions.",
		timed: true,
		run:   notCounted,
	},
	{
		name: "limit/exact",
		why: "P9: 50 sign-ins of one user at the same time, under a limit of 5 that ends the oldest: at no " +
			"moment are more than 5 sessions alive, and each ended session is reported once.",
		run: limitExact,
	},
	{
		name: "limit/exact-refuse",
		why:  "P9: Of 50 sign-ins at the same time, under a limit of 5 that refuses, exactly 5 succeed.",
		run: func(k *kit) {
			o := newOwner()
			all := o.visitors(50)
			var entered atomic.Int64
			concurrently(len(all), func(i int) {
				_, err := k.users().SignIn(k.Context(), all[i].id, o.limited(all[i], 5, true))
				if err == nil {
					entered.Add(1)
				} else if !errors.Is(err, driver.ErrTooMany) {
					k.Errorf("SignIn: %v, want ErrTooMany", err)
				}
			})
			if n := len(k.listed(o)); entered.Load() != 5 || n != 5 {
				k.Errorf("%d sign-ins succeeded and the user has %d sessions, want 5 of both", entered.Load(), n)
			}
		},
	},
	{
		name: "limit/against-renewal",
		why: "P9: A user signs in again while another request renews the token of the old session, under a " +
			"limit of one. The user has one session: the replaced session is left out of the count only if it " +
			"ends.",
		run: func(k *kit) {
			for range 100 {
				o := newOwner()
				from, v := k.signIn(o), o.visitor()
				next := from.with(newHash())
				concurrently(2, func(i int) {
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

// visitors returns n browsers of the user.
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
		k.mustSignIn(short, in)
		k.waitUntil(k.load(short).Deadline)
		k.end(k.signIn(o))
		k.signIn(newOwner())
		k.pause()
		enter := func(from ...visitor) visitor {
			k.Helper()
			k.pause()
			v := o.visitor()
			if res := k.mustSignIn(v, o.limited(v, 2, refuse, from...)); len(res.Evicted) != 0 {
				k.Errorf("Result.Evicted is %v", res.Evicted)
			}
			return v
		}
		anonymous := k.create()
		a, b := enter(), enter(anonymous)
		c := enter(a)
		d := enter(b)
		k.mustHaveSessions(o, c, d)
		k.pause()
		// The browser sends the id of a session without its token, so the sign-in does not replace
		// it.
		v, stranger := o.visitor(), c.with(newHash())
		if refuse {
			_ = k.mustRefuseSignIn(o, v, driver.ErrTooMany, o.limited(v, 2, true, stranger))
			k.mustHaveSessions(o, c, d)
			continue
		}
		if res := k.mustSignIn(v, o.limited(v, 2, false, stranger)); !sameIDs(res.Evicted, idsOf(c)) {
			k.Errorf("Result.Evicted is %v, want %v", res.Evicted, c.id)
		}
		k.mustHaveSessions(o, d, v)
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
				if n := k.aliveAtOnce(all); n > most {
					k.Errorf("%d sessions were alive at the same time, at most %d are allowed", n, most)
					return
				}
				list, err := k.users().Sessions(k.Context(), o.hash, driver.SessionCursor{}, 100)
				if err != nil || len(list) > most {
					k.Errorf("Sessions has %d, error %v, want at most the limit", len(list), err)
					return
				}
				yieldInBubble()
			}
		})
	}
	var mu sync.Mutex
	evicted := map[driver.ID]int{}
	concurrently(len(all), func(i int) {
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
		k.Errorf("%d sessions are alive and %d are reported as ended, of %d", len(live), len(evicted), len(all))
	}
	for id, n := range evicted {
		if n != 1 {
			k.Errorf("the end of %v is reported %d times", id, n)
		}
	}
	for _, id := range live {
		if evicted[id] != 0 {
			k.Errorf("%v is alive, but was reported as ended", id)
		}
	}
}
