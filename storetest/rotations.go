package storetest

import (
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// aged is a rotation that takes place if the current token is so old.
func (v visitor) aged(to driver.Hash, age time.Duration, ops ...driver.Op) *driver.Change {
	c := v.rotation(to, max(age/2, time.Second), ops...) // the grace, which is over when the new one is as old
	c.Renew.MinAge = age
	return c
}

// rotationCases: tokens that change by age, when several requests find them old at the same time.
var rotationCases = []testCase{
	{
		name: "rotation/age",
		why: "P3: a token rotates when it is old enough, to the millisecond, by the store's clock; one that is too young stays, and what else " +
			"the change does is done.",
		run: func(k *kit) {
			age := k.h.Unit
			v := k.createFor(8*age, 16*age)
			due := k.load(v).Created.Add(age)
			next := v.with(newHash())
			k.keeps(v, v.aged(next.verifier, age, add("n", 1)))
			k.justBefore(due)
			k.keeps(v, v.aged(next.verifier, age, add("n", 1)))
			k.at(due)
			k.renews(v, v.aged(next.verifier, age, add("n", 1)))
			due = k.load(v).Tokens.Issued.Add(age) // from now on it is the age of the new token
			last := v.with(newHash())
			k.keeps(v, next.aged(last.verifier, age, add("n", 1)))
			k.justBefore(due)
			k.keeps(v, next.aged(last.verifier, age, add("n", 1)))
			k.at(due)
			k.renews(v, next.aged(last.verifier, age, add("n", 1)))
			k.standing(last, driver.Current)
			k.has(v, "n", "6")
			if r := k.load(v); r.Tokens.Generation != 2 || r.TokenAge(r.Tokens.Issued.Add(time.Second)) != time.Second {
				k.Errorf("the tokens are %+v, want generation 2", r.Tokens)
			}
		},
	},
	{
		name: "rotation/at-once",
		why: "P3: of several requests that find a token old at the same time one rotates it, and all do what else they do: a browser that got two new " +
			"cookies could keep the wrong one, and look like a thief.",
		run: func(k *kit) { k.rotateTogether(k) },
	},
	{
		name:  "second/rotated",
		why:   "P3: of several processes that find a token old at the same time one rotates it.",
		needs: func(h *Harness) bool { return h.Second != nil },
		run:   func(k *kit) { k.rotateTogether(k, k.other()) },
	},
	{
		name: "rotation/lost",
		why: "P3: when the response with a new token was lost, the one before rotates again, but not before the lost one would have been old: it may " +
			"be on its way. The visitor's next token is of the same generation, so that the lost one never looks stolen.",
		run: func(k *kit) {
			age := k.h.Unit / 2
			v := k.createFor(8*age, 16*age)
			lost, next := v.with(newHash()), v.with(newHash())
			k.wait(age + k.h.Slack)
			k.renews(v, v.aged(lost.verifier, age))
			due := k.load(v).Tokens.Issued.Add(age)
			k.keeps(v, v.aged(next.verifier, age, add("n", 1)))
			k.justBefore(due)
			k.keeps(v, v.aged(next.verifier, age, add("n", 1)))
			k.at(due)
			k.renews(v, v.aged(next.verifier, age, add("n", 1)))
			k.refused(v, driver.ErrMoved, lost.change())
			k.standing(v, driver.Grace)
			k.standing(next, driver.Current)
			if r := k.load(v); r.Tokens.Generation != 1 || r.Tokens.Issued.Before(due) {
				k.Errorf("the tokens are %+v, want generation 1, issued after %v", r.Tokens, due)
			}
			k.has(v, "n", "3")
		},
	},
	{
		name: "rotation/used",
		why: "P3: once the browser has shown the new token, no request with the one before rotates, however old; one with the new token does when that is " +
			"old and the one before has had its grace.",
		run: func(k *kit) {
			age := k.h.Unit / 2
			v := k.createFor(16*age, 32*age)
			next, last := v.with(newHash()), v.with(newHash())
			k.wait(age + k.h.Slack)
			c := v.rotation(next.verifier, 2*age)
			c.Renew.MinAge = age
			k.renews(v, c)
			k.wait(age + k.h.Slack)
			k.keeps(v, next.aged(last.verifier, age)) // its first use, though it is old
			k.standing(v, driver.Grace)
			until := k.load(v).Tokens.PreviousUntil
			if until.IsZero() {
				k.Error("a rotation that did not take place hides the first use of the token")
			}
			k.keeps(v, v.aged(last.verifier, age, add("n", 1)))
			k.keeps(v, next.aged(last.verifier, age))
			k.at(until)
			k.renews(v, next.aged(last.verifier, age, add("n", 1)))
			k.standing(v, driver.Unknown)
			k.standing(next, driver.Grace)
			k.has(v, "n", "2")
		},
	},
	{
		name: "rotation/refused",
		why:  "P1: a change with a rotation is done whole or not at all: an operation that is refused leaves the token as it was.",
		run: func(k *kit) {
			v := k.create(set("role", `"user"`))
			k.refused(v, driver.ErrNotInteger, v.aged(newHash(), 0, add("n", 1), add("role", 1)))
			k.refused(v, driver.ErrNotInteger, v.aged(newHash(), time.Hour, add("n", 1), add("role", 1)))
			k.standing(v, driver.Current)
		},
	},
	{
		name: "rotation/repeated",
		why:  "P1: a rotation that took place and is repeated because its outcome was not heard does nothing twice, and says that it took place.",
		run: func(k *kit) {
			age := k.h.Unit / 2
			v := k.createFor(8*age, 16*age)
			next := v.with(newHash())
			k.wait(age + k.h.Slack)
			c := v.aged(next.verifier, age, add("n", 1))
			k.renews(v, c)
			before := k.load(v)
			k.renews(v, c)
			if after := k.load(v); !same(before, after) {
				k.Errorf("a repeated rotation made of %s\n%s", text(before), text(after))
			}
			k.apply(next)
			k.renews(v, c)
			k.has(v, "n", "1")
		},
	},
	{
		name: "rotation/renewal",
		why:  "P3: a renewal is meant to shut others out: it takes place at any age, and the new token's age begins with it.",
		run: func(k *kit) {
			age := k.h.Unit
			v := k.createFor(8*age, 16*age)
			next := v.with(newHash())
			c := v.renewal(next.verifier)
			c.Renew.MinAge = age
			k.wait(age + k.h.Slack)
			k.renews(v, c)
			k.keeps(v, next.aged(newHash(), age))
			last := v.with(newHash())
			c = next.renewal(last.verifier)
			c.Renew.MinAge = age
			k.renews(v, c)
			k.standing(last, driver.Current)
		},
	},
}

// renews makes a change whose renewal must take place.
func (k *kit) renews(v visitor, c *driver.Change) {
	k.Helper()
	res := k.applyChange(v, c)
	t := k.load(v).Tokens
	if !res.Renewed || t.Current != c.Renew.Verifier {
		k.Fatalf("Result.Renewed is %v, want true; the tokens are %+v", res.Renewed, t)
	}
}

// keeps makes a change whose rotation must not take place, and the rest of it must.
func (k *kit) keeps(v visitor, c *driver.Change) {
	k.Helper()
	before := k.load(v)
	res := k.applyChange(v, c)
	after := k.load(v)
	if res.Renewed || after.Tokens.Current != before.Tokens.Current || after.Tokens.Generation != before.Tokens.Generation ||
		!after.Tokens.Issued.Equal(before.Tokens.Issued) || after.Tokens.Previous != before.Tokens.Previous {
		k.Errorf("Result.Renewed is %v, want false; the tokens were %+v\nand are        %+v", res.Renewed, before.Tokens, after.Tokens)
	}
	if after.Revision != before.Revision+1 {
		k.Errorf("the revision is %d, want %d: the rest of the change is to be done", after.Revision, before.Revision+1)
	}
}

// rotateTogether lets many requests of some processes find a token old at the same time.
func (k *kit) rotateTogether(all ...*kit) {
	k.Helper()
	age := k.h.Unit / 2
	v := k.createFor(8*age, 16*age)
	for _, mine := range all {
		k.eventually("a created session", func() bool { _, _, err := mine.store.Load(k.Context(), v.id); return err == nil })
	}
	k.wait(age + k.h.Slack)
	next := make([]driver.Hash, 20)
	for i := range next {
		next[i] = newHash()
	}
	var won, winner atomic.Int64
	together(len(next), func(i int) {
		res, err := all[i%len(all)].store.Apply(k.Context(), v.id, v.aged(next[i], age, add("n", 1)))
		if err != nil {
			k.Errorf("Apply: %v", err)
		} else if res.Renewed {
			won.Add(1)
			winner.Store(int64(i))
		}
	})
	if won.Load() != 1 {
		k.Fatalf("%d rotations took place, want 1", won.Load())
	}
	k.eventually("the rotation", func() bool { return k.load(v).Revision == 1+uint64(len(next)) })
	k.has(v, "n", decimal(int64(len(next))))
	k.standing(v.with(next[winner.Load()]), driver.Current)
	k.standing(v, driver.Grace)
}
