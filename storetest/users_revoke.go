package storetest

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// revokeCases: which sessions a revocation ends, and which it does not.
var revokeCases = []testCase{
	{
		name: "user/end-keeps",
		why: "P9: An excepted session stays, for readers and writers, until another revocation. An ended " +
			"session does not come back because a later revocation excepts it.",
		run: func(k *kit) {
			o := newOwner()
			all := k.signIns(o, 3)
			k.pause()
			k.mustEndUser(o, driver.Selection{Except: idsOf(all[0]), MaxLifetime: longLifetime}, all[1], all[2])
			k.apply(all[0], add("n", 1))
			k.touch(all[0])
			next := all[0].with(newHash())
			k.applyChange(all[0], all[0].renewal(next.verifier))
			k.pause()
			young := k.signIn(o)
			k.mustHaveSessions(o, all[0], young)
			k.pause()
			k.mustEndUser(o, driver.Selection{Except: idsOf(all[1], young)}, next)
			k.mustBeEnded(all[1])
			k.mustHave(young)
			k.mustHaveSessions(o, young)
			k.apply(young, add("n", 1))
		},
	},
	{
		name: "user/end-against-writers",
		why: "P2: A change that is under way when the user's sessions, or all sessions, are ended either took " +
			"effect before or is refused. None is accepted once the end was acknowledged, and none brings the " +
			"session back.",
		run: endAgainstWriters,
	},
	{
		name: "user/second-keeps",
		why: "P9: An excepted session stays in every process, and the others end in every process, whatever " +
			"copies it has.",
		needs: shared,
		run: func(k *kit) {
			other := k.other()
			o := newOwner()
			all := k.signIns(o, 3)
			for _, v := range all {
				k.eventuallyVisible(other, v)
				other.load(v)
			}
			k.pause()
			k.mustEndUser(o, driver.Selection{Except: idsOf(all[2])}, all[0], all[1])
			other.apply(all[2], add("n", 1))
			other.touch(all[2])
			other.mustBeEndedElsewhere(k, all[0], all[1])
			other.mustHaveSessions(o, all[2])
		},
	},
	{
		name: "user/second-everybody",
		why: "P9: After an incident nobody is signed in, whichever process ended all sessions, and whatever " +
			"copies the others have.",
		needs: shared,
		timed: true,
		run: func(k *kit) {
			other := k.other()
			o := newOwner()
			user, anonymous := k.signIn(o), k.create(set("cart", `"tea"`))
			for _, v := range []visitor{user, anonymous} {
				k.eventuallyVisible(other, v)
				other.load(v)
			}
			k.pause()
			since := k.beganEarlier(time.Second)
			concurrently(2, func(int) { // two calls at the same time are allowed
				if err := k.users().EndAll(k.Context()); err != nil {
					k.Errorf("EndAll: %v", err)
				}
			})
			other.mustBeEndedElsewhere(k, user, anonymous)
			v := o.visitor()
			in := o.login(v)
			_ = other.mustRefuseSignInBegun(o, v, driver.ErrRevoked, in, since)
			k.wait(k.h.Slack + 2*time.Millisecond)
			in.Elapsed = 0
			other.mustSignIn(v, in)
			k.mustHaveSessions(o, v)
		},
	},
}

// mustBeEndedElsewhere checks that sessions which another process ended have ended in k: at once
// for writers, within the stated time for readers.
func (k *kit) mustBeEndedElsewhere(ender *kit, ended ...visitor) {
	k.Helper()
	for _, v := range ended {
		if _, err := k.store.Apply(k.Context(), v.id, v.change(add("n", 1))); !errors.Is(err, driver.ErrNotFound) {
			k.Errorf("Apply by the other process: %v, want ErrNotFound", err)
		}
		if err := k.store.Touch(k.Context(), v.id, v.verifier); !errors.Is(err, driver.ErrNotFound) {
			k.Errorf("Touch by the other process: %v, want ErrNotFound", err)
		}
		ender.eventuallyEnded(k, v)
	}
}

func endAgainstWriters(k *kit) {
	for round := range 20 {
		o := newOwner()
		all := make([]visitor, 4)
		for i := range all {
			all[i] = o.visitor()
			k.mustSignIn(all[i], o.login(all[i]))
		}
		k.pause()
		var ended atomic.Bool
		concurrently(len(all)+1, func(i int) {
			if i == len(all) {
				time.Sleep(time.Millisecond)
				var err error
				if round%2 == 0 {
					_, err = k.users().EndUser(k.Context(), o.hash, driver.Selection{})
				} else {
					err = k.users().EndAll(k.Context())
				}
				if err != nil {
					k.Errorf("ending the sessions: %v", err)
				}
				ended.Store(true)
				return
			}
			v := all[i]
			for range 10_000 {
				late := ended.Load()
				_, err := k.store.Apply(k.Context(), v.id, v.change(add("n", 1)))
				if errors.Is(err, driver.ErrNotFound) {
					return
				}
				if err != nil || late {
					k.Errorf("Apply: %v, begun after the end was acknowledged: %v", err, late)
					return
				}
				yieldInBubble()
			}
			k.Error("10,000 changes succeeded, and the session did not end")
		})
		for _, v := range all {
			k.mustBeEnded(v)
		}
		k.pause()
		if k.Failed() {
			return
		}
	}
}
