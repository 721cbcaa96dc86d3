package storetest

import (
	"sync"
	"sync/atomic"

	"github.com/coatcheck-go/session/driver"
)

// eventCases: what a store tells of ends, so that each can be reported once.
var eventCases = []testCase{
	{
		name: "event/end-owned",
		why:  "An end is reported if it ended something: a session that had ended before, had moved, or was never there, had not.",
		able: able[driver.OwnedEnder],
		run: func(k *kit) {
			o := newOwner()
			all, anonymous, expired := k.signIns(o, 4), k.create(), o.visitor()
			in := o.login(expired)
			in.Origin.Idle, in.Origin.Lifetime = k.h.Unit, 2*k.h.Unit
			k.enters(expired, in)
			k.endOwned(all[0], o.hash, true)
			k.endOwned(all[0], o.hash, false)
			k.endOwned(all[1], driver.Hash{}, true)
			k.endOwned(anonymous, driver.Hash{}, true)
			k.endOwned(anonymous, driver.Hash{}, false)
			k.endOwned(newVisitor(), driver.Hash{}, false)
			k.end(all[2])
			k.endOwned(all[2], o.hash, false)
			k.at(k.load(expired).Expires())
			k.endOwned(expired, o.hash, false)
			k.hasSessions(o, all[3])
			k.endUser(o, driver.Which{Only: idsOf(all[0], all[1], all[2])})
		},
	},
	{
		name: "event/end-owned-once",
		why:  "Of many who end a session at the same time, one has ended it.",
		able: able[driver.OwnedEnder],
		run: func(k *kit) {
			o := newOwner()
			for range 20 {
				v := k.signIn(o)
				var ended atomic.Int32
				var all sync.WaitGroup
				for range 4 {
					all.Go(func() {
						did, err := k.store.(driver.OwnedEnder).EndOwned(k.Context(), v.id, o.hash)
						if err != nil {
							k.Errorf("EndOwned: %v", err)
						}
						if did {
							ended.Add(1)
						}
					})
				}
				all.Go(func() {
					did, err := k.users().EndUser(k.Context(), o.hash, driver.Which{})
					if err != nil {
						k.Errorf("EndUser: %v", err)
					}
					ended.Add(int32(len(did))) //nolint:gosec // one at most
				})
				all.Wait()
				k.gone(v)
				if n := ended.Load(); n != 1 {
					k.Errorf("%d of 5 ended the session", n)
				}
			}
		},
	},
}

// able reports that a store has an ability.
func able[A any](s driver.Store) bool {
	_, ok := s.(A)
	return ok
}

func (k *kit) endOwned(v visitor, owner driver.Hash, want bool) {
	k.Helper()
	ended, err := k.store.(driver.OwnedEnder).EndOwned(k.Context(), v.id, owner)
	if err != nil || ended != want {
		k.Errorf("EndOwned: %v, %v, want %v", ended, err, want)
	}
	k.gone(v)
}
