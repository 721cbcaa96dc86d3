package storetest

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// eventCases: what a store tells of ends, so that each can be reported once.
var eventCases = []testCase{
	{
		name: "event/end-owned",
		why:  "An end is reported if it ended something: a session that had ended before, had moved, or was never there, had not.",
		able: able[driver.EndReporter],
		run: func(k *kit) {
			o := newOwner()
			all, anonymous, expired := k.signIns(o, 4), k.create(), o.visitor()
			in := o.login(expired)
			in.Spec.Idle, in.Spec.Lifetime = k.h.Unit, 2*k.h.Unit
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
			k.endUser(o, driver.Selection{Only: idsOf(all[0], all[1], all[2])})
		},
	},
	{
		name: "event/end-owned-once",
		why:  "Of many who end a session at the same time, one has ended it.",
		able: able[driver.EndReporter],
		run: func(k *kit) {
			o := newOwner()
			for range 20 {
				v := k.signIn(o)
				var ended atomic.Int32
				var all sync.WaitGroup
				for range 4 {
					all.Go(func() {
						did, err := k.store.(driver.EndReporter).EndAndReport(k.Context(), v.id, o.hash)
						if err != nil {
							k.Errorf("EndAndReport: %v", err)
						}
						if did {
							ended.Add(1)
						}
					})
				}
				all.Go(func() {
					did, err := k.users().EndUser(k.Context(), o.hash, driver.Selection{})
					if err != nil {
						k.Errorf("EndUser: %v", err)
					}
					ended.Add(int32(len(did)))
				})
				all.Wait()
				k.gone(v)
				if n := ended.Load(); n != 1 {
					k.Errorf("%d of 5 ended the session", n)
				}
			}
		},
	},
	{
		name: "event/expired",
		why: "A session of a user that expires is told of once, whoever of the clients sees it. One that was ended, evicted or replaced did not " +
			"expire, and nobody hears of anonymous ones.",
		able: able[driver.ExpiryReporter],
		run:  expiresOnce,
	},
	{
		name:  "event/expired-after-reopen",
		why:   "A session that outlives the process it was made by is told of when it expires, and not again by the next process.",
		able:  able[driver.ExpiryReporter],
		needs: func(h *Harness) bool { return h.Reopen != nil },
		run: func(k *kit) {
			o := newOwner()
			v, anonymous := k.shortly(o), k.createFor(k.h.Unit, k.h.Unit)
			at := map[driver.ID]time.Time{v.id: k.load(v).Expires()}
			k.justBefore(at[v.id])
			k.reopen()
			var told expiries
			told.hear(k.store)
			k.at(at[v.id])
			k.gone(anonymous)
			k.hasSessions(o) // the visit
			k.wait(k.h.Unit / 2)
			told.once(k, o, at)
			k.reopen()
			told.hear(k.store)
			k.hasSessions(o)
			k.wait(k.h.Unit / 2)
			told.once(k, o, at)
		},
	},
}

// expiries are what a store has told of.
type expiries struct {
	mu   sync.Mutex
	told []driver.ExpiredSession
}

// hear collects what a store tells.
func (x *expiries) hear(s driver.Store) {
	s.(driver.ExpiryReporter).OnExpiry(func(e driver.ExpiredSession) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.told = append(x.told, e)
	})
}

// of returns what was told of these sessions, and how much of others.
func (x *expiries) of(ids ...driver.ID) (told []driver.ExpiredSession, others int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.told {
		if slices.Contains(ids, e.ID) {
			told = append(told, e)
		} else {
			others++
		}
	}
	return told, others
}

// once checks that it was told of each of these sessions once, rightly, and of no other.
func (x *expiries) once(k *kit, o owner, ended map[driver.ID]time.Time) {
	k.Helper()
	told, others := x.of(slices.Collect(maps.Keys(ended))...)
	if len(told) != len(ended) || others != 0 {
		k.Errorf("told of %d sessions that expired and of %d others, want %d and none", len(told), others, len(ended))
	}
	for _, e := range told {
		if e.Owner != o.hash || e.At.Before(ended[e.ID].Add(-k.h.Slack)) || e.Record != nil && (e.Record.Principal == nil || e.Record.Principal.User != o.name) {
			k.Errorf("told of %+v, of owner %s, after %v", e, o.hash, ended[e.ID])
		}
	}
}

// shortly is a sign-in to a session that soon expires; it is used once, or it would expire even sooner.
func (k *kit) shortly(o owner, from ...visitor) visitor {
	k.Helper()
	v := o.visitor()
	in := o.login(v, from...)
	in.Spec.Idle, in.Spec.Lifetime = k.h.Unit, 2*k.h.Unit
	k.pause()
	k.enters(v, in)
	k.touch(v)
	return v
}

// expiresOnce: of sessions that expire, were ended, were evicted and were replaced, and of two clients on one store.
func expiresOnce(k *kit) {
	var told expiries
	told.hear(k.store)
	second := k.store
	if k.h.Second != nil {
		if second = k.other().store; second != k.store {
			told.hear(second)
		}
	}
	o, other := newOwner(), newOwner()
	stays := k.signIn(o)
	anonymous := k.createFor(k.h.Unit, k.h.Unit)
	expires := []visitor{k.shortly(o), k.shortly(o)}
	ended, endedUnowned, endedByUser, evicted := k.shortly(other), k.shortly(other), k.shortly(other), k.shortly(other)
	k.endOwned(ended, other.hash, true)
	k.end(endedUnowned)
	k.endUser(other, driver.Selection{Only: idsOf(endedByUser)}, endedByUser)
	v := other.visitor()
	k.enters(v, other.limited(v, 1, false))
	k.gone(evicted)
	own := k.shortly(o, k.shortly(o)) // over the user's own, over another's, over an anonymous one
	another := k.shortly(o, k.shortly(other))
	third := k.shortly(o, k.createFor(k.h.Unit, k.h.Unit))
	expires = append(expires, own, another, third)
	at := map[driver.ID]time.Time{}
	for _, v := range expires {
		at[v.id] = k.load(v).Expires()
		if _, _, err := second.Load(k.Context(), v.id); err != nil { // this one knows of it, too
			k.Error(err)
		}
	}
	if got, others := told.of(slices.Collect(maps.Keys(at))...); len(got)+others > 0 {
		k.Errorf("told of %d sessions that live", len(got)+others)
	}
	k.at(at[third.id])
	k.gone(anonymous)
	k.hasSessions(o, stays)
	k.hasSessions(other, v)
	for range 40 { // within a minute at most
		if got, _ := told.of(slices.Collect(maps.Keys(at))...); len(got) == len(at) {
			break
		}
		k.wait(max(k.h.Unit/40, k.h.Slack/4))
	}
	k.hasSessions(o, stays)
	for range 2 { // whoever visits
		next := o.visitor()
		k.enters(next, o.login(next))
		next = other.visitor()
		k.enters(next, other.login(next))
	}
	k.wait(k.h.Unit / 4)
	told.once(k, o, at)
}

// able reports that a store has an ability.
func able[A any](s driver.Store) bool {
	_, ok := s.(A)
	return ok
}

func (k *kit) endOwned(v visitor, owner driver.Hash, want bool) {
	k.Helper()
	ended, err := k.store.(driver.EndReporter).EndAndReport(k.Context(), v.id, owner)
	if err != nil || ended != want {
		k.Errorf("EndAndReport: %v, %v, want %v", ended, err, want)
	}
	k.gone(v)
}
