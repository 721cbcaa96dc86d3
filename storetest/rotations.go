package storetest

import (
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// agedRotation is a rotation that takes effect if the current token has this age. Its grace period
// ends before the new token has that age.
func (v visitor) agedRotation(to driver.Hash, age time.Duration, ops ...driver.Op) *driver.Change {
	c := v.rotation(to, max(age/2, time.Second), ops...)
	c.Renew.MinAge = age
	return c
}

// rotationCases: tokens rotate by age, also if several requests find them old at the same time.
var rotationCases = []testCase{
	{
		name: "rotation/age",
		why: "P3: A token rotates when it is old enough, to the millisecond, by the store's clock. A younger " +
			"token stays, and the rest of the change is done.",
		timed: true,
		run: func(k *kit) {
			age := k.h.Unit
			v := k.createFor(8*age, 16*age)
			due := k.load(v).Created.Add(age)
			next := v.with(newHash())
			k.mustNotRenew(v, v.agedRotation(next.verifier, age, add("n", 1)))
			k.waitUntilJustBefore(due)
			k.mustNotRenew(v, v.agedRotation(next.verifier, age, add("n", 1)))
			k.waitUntil(due)
			k.mustRenew(v, v.agedRotation(next.verifier, age, add("n", 1)))
			due = k.load(v).Tokens.Issued.Add(age) // from now on the age of the new token counts
			last := v.with(newHash())
			k.mustNotRenew(v, next.agedRotation(last.verifier, age, add("n", 1)))
			k.waitUntilJustBefore(due)
			k.mustNotRenew(v, next.agedRotation(last.verifier, age, add("n", 1)))
			k.waitUntil(due)
			k.mustRenew(v, next.agedRotation(last.verifier, age, add("n", 1)))
			k.mustHaveStatus(last, driver.Current)
			k.mustHave(v, "n", "6")
			if r := k.load(v); r.Tokens.Generation != 2 || r.TokenAge(r.Tokens.Issued.Add(time.Second)) != time.Second {
				k.Errorf("the tokens are %+v, want generation 2", r.Tokens)
			}
		},
	},
	{
		name: "rotation/at-once",
		why: "P3: If several requests find a token old at the same time, one rotates it and all do the rest of " +
			"their changes. A browser that gets two new cookies could keep the wrong one and look like a " +
			"thief.",
		timed: true,
		run:   func(k *kit) { k.rotateTogether(k) },
	},
	{
		name:  "second/rotated",
		why:   "P3: If several processes find a token old at the same time, one rotates it.",
		needs: func(h *Harness) bool { return h.Second != nil },
		timed: true,
		run:   func(k *kit) { k.rotateTogether(k, k.other()) },
	},
	{
		name: "rotation/lost",
		why: "P3: If the response with a new token was lost, the old token rotates again, but not before the " +
			"lost token would have been old: that response may be on its way. The next token has the same " +
			"generation, so that the lost one never looks stolen.",
		timed: true,
		run: func(k *kit) {
			age := k.h.Unit / 2
			v := k.createFor(8*age, 16*age)
			lost, next := v.with(newHash()), v.with(newHash())
			k.waitUntil(k.load(v).Created.Add(age))
			k.mustRenew(v, v.agedRotation(lost.verifier, age))
			due := k.load(v).Tokens.Issued.Add(age)
			k.mustNotRenew(v, v.agedRotation(next.verifier, age, add("n", 1)))
			k.waitUntilJustBefore(due)
			k.mustNotRenew(v, v.agedRotation(next.verifier, age, add("n", 1)))
			k.waitUntil(due)
			k.mustRenew(v, v.agedRotation(next.verifier, age, add("n", 1)))
			k.mustRefuse(v, driver.ErrMoved, lost.change())
			k.mustHaveStatus(v, driver.Grace)
			k.mustHaveStatus(next, driver.Current)
			if r := k.load(v); r.Tokens.Generation != 1 || r.Tokens.Issued.Before(due) {
				k.Errorf("the tokens are %+v, want generation 1, issued after %v", r.Tokens, due)
			}
			k.mustHave(v, "n", "3")
		},
	},
	{
		name: "rotation/used",
		why: "P3: Once the browser has used the new token, no request with the old one rotates, however old " +
			"the token is. A request with the new token rotates when that is old and the grace period of the " +
			"old one is over.",
		timed: true,
		run: func(k *kit) {
			age := k.h.Unit / 2
			v := k.createFor(16*age, 32*age)
			next, last := v.with(newHash()), v.with(newHash())
			k.waitUntil(k.load(v).Created.Add(age))
			c := v.rotation(next.verifier, 2*age)
			c.Renew.MinAge = age
			k.mustRenew(v, c)
			k.waitUntil(k.load(v).Tokens.Issued.Add(age))
			// The new token is old, but this is its first use.
			k.mustNotRenew(v, next.agedRotation(last.verifier, age))
			k.mustHaveStatus(v, driver.Grace)
			until := k.load(v).Tokens.PreviousUntil
			if until.IsZero() {
				k.Error("a rotation that had no effect hides the first use of the token")
			}
			k.mustNotRenew(v, v.agedRotation(last.verifier, age, add("n", 1)))
			k.mustNotRenew(v, next.agedRotation(last.verifier, age))
			k.waitUntil(until)
			k.mustRenew(v, next.agedRotation(last.verifier, age, add("n", 1)))
			k.mustHaveStatus(v, driver.Unknown)
			k.mustHaveStatus(next, driver.Grace)
			k.mustHave(v, "n", "2")
		},
	},
	{
		name: "rotation/refused",
		why:  "P1: A change with a rotation is all or nothing: a refused operation leaves the token as it was.",
		run: func(k *kit) {
			v := k.create(set("role", `"user"`))
			k.mustRefuse(v, driver.ErrNotInteger, v.agedRotation(newHash(), 0, add("n", 1), add("role", 1)))
			k.mustRefuse(v, driver.ErrNotInteger, v.agedRotation(newHash(), time.Hour, add("n", 1), add("role", 1)))
			k.mustHaveStatus(v, driver.Current)
		},
	},
	{
		name: "rotation/repeated",
		why: "P1: A rotation that took effect and is repeated, because its outcome is not known, does nothing " +
			"twice and reports that it took effect.",
		timed: true,
		run: func(k *kit) {
			age := k.h.Unit / 2
			v := k.createFor(8*age, 16*age)
			next := v.with(newHash())
			k.waitUntil(k.load(v).Created.Add(age))
			c := v.agedRotation(next.verifier, age, add("n", 1))
			k.mustRenew(v, c)
			before := k.load(v)
			k.mustRenew(v, c)
			if after := k.load(v); !same(before, after) {
				k.Errorf("before a repeated rotation: %s\nafter:                     %s", text(before), text(after))
			}
			k.apply(next)
			k.mustRenew(v, c)
			k.mustHave(v, "n", "1")
		},
	},
	{
		name: "rotation/renewal",
		why: "P3: A renewal shuts other clients out. It takes effect at any age, and the age of the new token " +
			"starts with it.",
		timed: true,
		run: func(k *kit) {
			age := k.h.Unit
			v := k.createFor(8*age, 16*age)
			next := v.with(newHash())
			c := v.renewal(next.verifier)
			c.Renew.MinAge = age
			k.waitUntil(k.load(v).Created.Add(age))
			k.mustRenew(v, c)
			k.mustNotRenew(v, next.agedRotation(newHash(), age))
			last := v.with(newHash())
			c = next.renewal(last.verifier)
			c.Renew.MinAge = age
			k.mustRenew(v, c)
			k.mustHaveStatus(last, driver.Current)
		},
	},
}

// mustRenew makes a change whose renewal must take effect.
func (k *kit) mustRenew(v visitor, c *driver.Change) {
	k.Helper()
	res := k.applyChange(v, c)
	t := k.load(v).Tokens
	if !res.Renewed || t.Current != c.Renew.Verifier {
		k.Fatalf("Result.Renewed is %v, want true; the tokens are %+v", res.Renewed, t)
	}
}

// mustNotRenew makes a change whose rotation must have no effect, while the rest of the change is
// done.
func (k *kit) mustNotRenew(v visitor, c *driver.Change) {
	k.Helper()
	before := k.load(v)
	res := k.applyChange(v, c)
	after := k.load(v)
	if res.Renewed || after.Tokens.Current != before.Tokens.Current || after.Tokens.Generation != before.Tokens.Generation ||
		!after.Tokens.Issued.Equal(before.Tokens.Issued) || after.Tokens.Previous != before.Tokens.Previous {
		k.Errorf("Result.Renewed is %v, want false; the tokens were %+v\nand are        %+v",
			res.Renewed, before.Tokens, after.Tokens)
	}
	if after.Revision != before.Revision+1 {
		k.Errorf("the revision is %d, want %d, because the rest of the change is done", after.Revision, before.Revision+1)
	}
}

// rotateTogether sends many requests, from several processes, that find a token old at the same
// time.
func (k *kit) rotateTogether(all ...*kit) {
	k.Helper()
	age := k.h.Unit / 2
	v := k.createFor(8*age, 16*age)
	for _, mine := range all {
		k.eventuallyVisible(mine, v)
	}
	k.waitUntil(k.load(v).Created.Add(age))
	next := make([]driver.Hash, 20)
	for i := range next {
		next[i] = newHash()
	}
	var won, winner atomic.Int64
	concurrently(len(next), func(i int) {
		res, err := all[i%len(all)].store.Apply(k.Context(), v.id, v.agedRotation(next[i], age, add("n", 1)))
		if err != nil {
			k.Errorf("Apply: %v", err)
		} else if res.Renewed {
			won.Add(1)
			winner.Store(int64(i))
		}
	})
	if won.Load() != 1 {
		k.Fatalf("%d rotations took effect, want 1", won.Load())
	}
	k.eventually("the rotation", func() bool { return k.load(v).Revision == 1+uint64(len(next)) })
	k.mustHave(v, "n", decimal(int64(len(next))))
	k.mustHaveStatus(v.with(next[winner.Load()]), driver.Current)
	k.mustHaveStatus(v, driver.Grace)
}
