package storetest

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// revokeCases: what a revocation ends, for whom, and what it does not.
var revokeCases = []testCase{
	{
		name: "user/end-keeps",
		why: "P9: the session that was to stay does, for its reader and its writer, until another revocation; and who ended does not come back " +
			"because a later revocation would keep it.",
		run: func(k *kit) {
			o := newOwner()
			all := k.signIns(o, 3)
			k.pause()
			k.endUser(o, driver.Selection{Except: idsOf(all[0]), MaxLifetime: longLifetime}, all[1], all[2])
			k.apply(all[0], add("n", 1))
			k.touch(all[0])
			next := all[0].with(newHash())
			k.applyChange(all[0], all[0].renewal(next.verifier))
			k.pause()
			young := k.signIn(o)
			k.hasSessions(o, all[0], young)
			k.pause()
			k.endUser(o, driver.Selection{Except: idsOf(all[1], young)}, next)
			k.gone(all[1])
			k.has(young)
			k.hasSessions(o, young)
			k.apply(young, add("n", 1))
		},
	},
	{
		name: "user/end-against-writers",
		why: "P2: a change that is under way when the user's sessions, or everybody's, are ended took effect before it or is refused: none is accepted " +
			"once the end was acknowledged, and none brings the session back.",
		run: endAgainstWriters,
	},
	{
		name:  "user/second-keeps",
		why:   "P9: the session that was to stay stays in every process, and the others end in every process, whatever copies it has.",
		needs: shared,
		run: func(k *kit) {
			other := k.other()
			o := newOwner()
			all := k.signIns(o, 3)
			for _, v := range all {
				k.eventually("a session", func() bool { _, _, err := other.store.Load(k.Context(), v.id); return err == nil })
				other.load(v)
			}
			k.pause()
			k.endUser(o, driver.Selection{Except: idsOf(all[2])}, all[0], all[1])
			other.apply(all[2], add("n", 1))
			other.touch(all[2])
			other.overIn(k, all[0], all[1])
			other.hasSessions(o, all[2])
		},
	},
	{
		name:  "user/second-everybody",
		why:   "P9: after an incident nobody is signed in, whichever process ended all, and whatever copies the others have.",
		needs: shared,
		run: func(k *kit) {
			other := k.other()
			o := newOwner()
			user, anonymous := k.signIn(o), k.create(set("cart", `"tea"`))
			for _, v := range []visitor{user, anonymous} {
				k.eventually("a session", func() bool { _, _, err := other.store.Load(k.Context(), v.id); return err == nil })
				other.load(v)
			}
			k.pause()
			since := k.earlier(time.Second)
			together(2, func(int) { // two at the same time do no harm
				if err := k.users().EndAll(k.Context()); err != nil {
					k.Errorf("EndAll: %v", err)
				}
			})
			other.overIn(k, user, anonymous)
			v := o.visitor()
			in := o.login(v)
			_ = other.barredSince(o, v, driver.ErrRevoked, in, since)
			k.wait(k.h.Slack + 2*time.Millisecond)
			in.Elapsed = 0
			other.enters(v, in)
			k.hasSessions(o, v)
		},
	},
}

// overIn checks that sessions which another process ended are over in k: at once for writers, within the stated time for readers.
func (k *kit) overIn(ender *kit, ended ...visitor) {
	k.Helper()
	for _, v := range ended {
		if _, err := k.store.Apply(k.Context(), v.id, v.change(add("n", 1))); !errors.Is(err, driver.ErrNotFound) {
			k.Errorf("Apply by the other process: %v, want ErrNotFound", err)
		}
		if err := k.store.Touch(k.Context(), v.id, v.verifier); !errors.Is(err, driver.ErrNotFound) {
			k.Errorf("Touch by the other process: %v, want ErrNotFound", err)
		}
		ender.eventually("an end", func() bool { _, _, err := k.store.Load(k.Context(), v.id); return errors.Is(err, driver.ErrNotFound) })
	}
}

func endAgainstWriters(k *kit) {
	for round := range 20 {
		o := newOwner()
		all := make([]visitor, 4)
		for i := range all {
			all[i] = o.visitor()
			k.enters(all[i], o.login(all[i]))
		}
		k.pause()
		var ended atomic.Bool
		together(len(all)+1, func(i int) {
			if i == len(all) {
				time.Sleep(time.Millisecond)
				var err error
				if round%2 == 0 {
					_, err = k.users().EndUser(k.Context(), o.hash, driver.Selection{})
				} else {
					err = k.users().EndAll(k.Context())
				}
				if err != nil {
					k.Errorf("ending all: %v", err)
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
					k.Errorf("Apply: %v, begun after the end: %v", err, late)
					return
				}
				time.Sleep(time.Microsecond) // see concurrent/whole-changes
			}
			k.Error("changes go on for ever")
		})
		for _, v := range all {
			k.gone(v)
		}
		k.pause()
		if k.Failed() {
			return
		}
	}
}
