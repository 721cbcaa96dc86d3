package storetest

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// renewal and rotation are changes that replace v's token.
func (v visitor) renewal(to driver.Hash, ops ...driver.Op) *driver.Change {
	return &driver.Change{Verifier: v.verifier, Ops: ops, Renew: &driver.Renewal{Verifier: to}}
}

func (v visitor) rotation(to driver.Hash, grace time.Duration, ops ...driver.Op) *driver.Change {
	return &driver.Change{Verifier: v.verifier, Ops: ops, Renew: &driver.Renewal{Verifier: to, Grace: grace}}
}

// tokenCases: which tokens a session accepts while they change.
var tokenCases = []testCase{
	{
		name: "token/foreign",
		why: "P3: A client that knows a session's id, which is public, but not its token changes nothing and " +
			"extends nothing.",
		run: func(k *kit) {
			v := k.create(set("theme", `"dark"`))
			for _, bad := range []driver.Hash{newHash(), {}, driver.Hash(v.secret), v.id.Selector} {
				attacker := v.with(bad)
				k.mustRefuse(v, driver.ErrMoved, attacker.change(set("theme", `"lite"`)))
				k.mustRefuse(v, driver.ErrMoved, attacker.change())
				k.mustRefuse(v, driver.ErrMoved, attacker.renewal(newHash()))
				k.mustRefuse(v, driver.ErrMoved, attacker.rotation(newHash(), time.Hour))
				k.mustRefuseTouch(v, attacker)
				if r, now := k.loadAt(v); r.Tokens.Status(bad, now) != driver.Unknown {
					k.Error("the record knows a token that was never issued")
				}
			}
		},
	},
	{
		name: "token/renew",
		why: "P3: When privileges change, the token changes in one step, and the old token is refused at once. " +
			"For a minute the store distinguishes it from a token that was never issued, so that a request that was " +
			"under way does not overwrite the new cookie.",
		run: renew,
	},
	{
		name: "token/renew-with-changes",
		why: "P1: Changes are stored together with a new token or not at all. No new privilege is stored under " +
			"the old token.",
		run: func(k *kit) {
			v := k.create(set("role", `"user"`))
			next := v.with(newHash())
			k.mustRefuse(v, driver.ErrNotInteger, v.renewal(next.verifier, set("x", `1`), add("role", 1)))
			k.mustRefuse(v, driver.ErrMoved, next.change())
			res := k.applyChange(v, v.renewal(next.verifier, set("role", `"admin"`), add("visits", 1)))
			k.mustReturn(res, nil, "1")
			k.mustHave(v, "role", `"admin"`, "visits", "1")
			k.mustRefuse(v, driver.ErrMoved, v.change(set("role", `"user"`)))
		},
	},
	{
		name: "token/renew-repeated",
		why: "P1: A node that does not know the outcome of a renewal repeats it. It succeeds, and nothing is " +
			"done twice.",
		run: func(k *kit) {
			v := k.create()
			next := v.with(newHash())
			c := v.renewal(next.verifier, add("visits", 1))
			k.applyChange(v, c)
			before := k.load(v)
			for range 3 {
				k.applyChange(v, c)
			}
			if after := k.load(v); !same(before, after) {
				k.Errorf("before a repeated renewal: %s\nafter:                    %s", text(before), text(after))
			}
			k.apply(next, add("visits", 10))
			k.applyChange(v, c)
			k.mustHave(v, "visits", "11")
			last := next.with(newHash())
			k.applyChange(v, next.renewal(last.verifier))
			k.mustRefuse(v, driver.ErrMoved, c) // after another renewal, c is no repetition
			k.mustHave(v, "visits", "11")
		},
	},
	{
		name: "token/renew-at-once",
		why: "P3: Of several renewals of one token, exactly one succeeds. The browser gets one new cookie, and " +
			"it works.",
		run: func(k *kit) {
			v := k.create()
			next := make([]driver.Hash, 20)
			for i := range next {
				next[i] = newHash()
			}
			var won, winner atomic.Int64
			concurrently(len(next), func(i int) {
				_, err := k.store.Apply(k.Context(), v.id, v.renewal(next[i]))
				switch {
				case err == nil:
					won.Add(1)
					winner.Store(int64(i))
				case !errors.Is(err, driver.ErrMoved):
					k.Errorf("Apply: %v, want ErrMoved", err)
				}
			})
			if won.Load() != 1 {
				k.Fatalf("%d renewals succeeded, want 1", won.Load())
			}
			k.apply(v.with(next[winner.Load()]), add("n", 1))
		},
	},
	{
		name: "token/renew-against-writes",
		why: "P1: Writes that race with a renewal are either stored and acknowledged, or refused as moved. " +
			"None is lost, and none with the old token is accepted once the renewal has returned.",
		run: renewAgainstWrites,
	},
	{
		name: "token/rotate",
		why: "P3: A rotated token is accepted until the browser has used the new one, because the response " +
			"with the new cookie can get lost.",
		run: func(k *kit) {
			v := k.create()
			next := v.with(newHash())
			k.applyChange(v, v.rotation(next.verifier, time.Hour, add("n", 1)))
			for range 2 { // the browser still uses the old token
				k.apply(v, add("n", 1))
				k.touch(v)
				k.mustHaveStatus(v, driver.Grace)
				k.mustHaveStatus(next, driver.Current)
			}
			if t := k.load(v).Tokens; t.Generation != 1 || !t.PreviousUntil.IsZero() {
				k.Errorf("the tokens are %+v, want generation 1 and no end of the grace period yet", t)
			}
			k.mustHave(v, "n", "3")
		},
	},
	{
		name: "token/rotate-again",
		why: "P3: If the response with a rotated token was lost, a later request with the old token gets " +
			"another one. The lost token is then refused.",
		run: func(k *kit) {
			v := k.create()
			lost, next := v.with(newHash()), v.with(newHash())
			k.applyChange(v, v.rotation(lost.verifier, time.Hour))
			k.applyChange(v, v.rotation(next.verifier, time.Hour))
			k.mustRefuse(v, driver.ErrMoved, lost.change(add("n", 1)))
			k.mustHaveStatus(lost, driver.Unknown)
			k.apply(v, add("n", 1))
			k.mustHaveStatus(v, driver.Grace)
			k.apply(next, add("n", 1))
			k.mustHave(v, "n", "2")
		},
	},
	{
		name: "token/rotate-confirmed",
		why: "P3: The first use of a rotated token starts the grace period of the old token, once and exactly. " +
			"After it the old token is refused.",
		timed: true,
		run: func(k *kit) {
			k.mustStartGrace(func(next visitor) { k.apply(next) })
			k.mustStartGrace(func(next visitor) { k.touch(next) })
		},
	},
	{
		name: "token/rotate-late",
		why: "P3: A token whose successor is in use does not rotate any more. The request was under way, and a " +
			"third token would make the browser's token look stolen.",
		run: func(k *kit) {
			v := k.create()
			next := v.with(newHash())
			k.applyChange(v, v.rotation(next.verifier, time.Hour))
			k.apply(next)
			// The operations of a request with the old token are still applied.
			k.mustNotRenew(v, v.rotation(newHash(), time.Hour, add("n", 1)))
			k.mustHaveStatus(next, driver.Current)
			// The new token does not rotate while the old one is in its grace period.
			k.mustNotRenew(v, next.rotation(newHash(), time.Hour))
			k.mustHaveStatus(v, driver.Grace)
			k.mustHaveStatus(next, driver.Current)
		},
	},
	{
		name: "token/rotate-repeated",
		why: "P1: A rotation that took effect and is repeated, because its outcome is not known, does nothing " +
			"twice and starts no grace period.",
		run: func(k *kit) {
			v := k.create()
			next := v.with(newHash())
			c := v.rotation(next.verifier, time.Hour, add("n", 1))
			k.applyChange(v, c)
			before := k.load(v)
			k.applyChange(v, c)
			if after := k.load(v); !same(before, after) {
				k.Errorf("before a repeated rotation: %s\nafter:                     %s", text(before), text(after))
			}
		},
	},
	{
		name: "token/rotate-then-renew",
		why:  "P3: A renewal shuts other clients out. It therefore also ends the grace period of a rotation.",
		run: func(k *kit) {
			for _, confirmed := range []bool{false, true} {
				v := k.create()
				next, last := v.with(newHash()), v.with(newHash())
				k.applyChange(v, v.rotation(next.verifier, time.Hour))
				if confirmed {
					k.apply(next)
				}
				k.applyChange(v, next.renewal(last.verifier))
				k.mustRefuse(v, driver.ErrMoved, v.change())
				k.mustRefuse(v, driver.ErrMoved, next.change())
				k.mustHaveStatus(v, driver.Unknown)
				k.mustHaveStatus(next, driver.Superseded)
				k.mustHaveStatus(last, driver.Current)
			}
		},
	},
}

func renew(k *kit) {
	v := k.create(set("cart:a", `1`))
	before := k.load(v)
	next := v.with(newHash())
	res := k.applyChange(v, v.renewal(next.verifier))
	r := k.load(v)
	if r.Tokens.Current != next.verifier || r.Tokens.Previous != v.verifier ||
		r.Tokens.PreviousAccepted || r.Tokens.Generation != 1 {
		k.Errorf("the tokens are %+v", r.Tokens)
	}
	if !res.Renewed || !r.Tokens.Issued.Equal(res.Now) {
		k.Errorf("Result.Renewed is %v, want true; the token was issued at %v, want %v",
			res.Renewed, r.Tokens.Issued, res.Now)
	}
	if want := res.Now.Add(driver.SupersededFor); !r.Tokens.PreviousUntil.Equal(want) {
		k.Errorf("the old token is remembered until %v, want %v", r.Tokens.PreviousUntil, want)
	}
	for _, at := range []struct {
		after time.Duration
		want  driver.TokenStatus
	}{
		{0, driver.Superseded},
		{driver.SupersededFor - time.Millisecond, driver.Superseded},
		{driver.SupersededFor, driver.Unknown},
	} {
		if got := r.Tokens.Status(v.verifier, res.Now.Add(at.after)); got != at.want {
			k.Errorf("the status of the old token is %v %v after the renewal, want %v", got, at.after, at.want)
		}
	}
	if r.Secret != before.Secret || !r.Deadline.Equal(before.Deadline) ||
		!r.Created.Equal(before.Created) || r.Revision != before.Revision+1 {
		k.Errorf("before the renewal: %s\nafter:             %s", text(before), text(r))
	}
	k.mustRefuse(v, driver.ErrMoved, v.change(add("n", 1)))
	k.mustRefuse(v, driver.ErrMoved, v.renewal(newHash()))
	k.mustRefuseTouch(v, v)
	k.apply(next, add("n", 1))
	k.touch(next)
	last := v.with(newHash())
	k.applyChange(v, next.renewal(last.verifier))
	k.mustHaveStatus(v, driver.Unknown)
	k.mustHaveStatus(next, driver.Superseded)
	k.apply(last, add("n", 1))
	k.mustHave(v, "cart:a", "1", "n", "2")
}

func renewAgainstWrites(k *kit) {
	for range 30 {
		v := k.create()
		next := v.with(newHash())
		k.raceWrites(v, next, "the renewal", func() error {
			_, err := k.store.Apply(k.Context(), v.id, v.renewal(next.verifier))
			return err
		})
		if k.Failed() {
			return
		}
	}
}

// raceWrites runs eight writers that add to a counter of v while change replaces its token. Each
// addition must be acknowledged and counted, or refused as moved. None may be accepted once change
// has returned. after is the session with the new token.
func (k *kit) raceWrites(v, after visitor, what string, change func() error) {
	k.Helper()
	var acknowledged atomic.Int64
	var changed atomic.Bool
	concurrently(9, func(i int) {
		if i == 0 {
			if err := change(); err != nil {
				k.Errorf("%s: %v", what, err)
			}
			changed.Store(true)
			return
		}
		for range 1000 {
			late := changed.Load()
			_, err := k.store.Apply(k.Context(), v.id, v.change(add("n", 1)))
			if errors.Is(err, driver.ErrMoved) {
				return
			}
			if err != nil {
				k.Errorf("Apply: %v, want ErrMoved or none", err)
				return
			}
			if late {
				k.Errorf("a write with the old token was accepted after %s had returned", what)
				return
			}
			acknowledged.Add(1)
		}
	})
	k.apply(after, add("n", 1))
	k.mustHave(after, "n", decimal(acknowledged.Load()+1))
}

// mustStartGrace checks that use, the first use of a rotated token, starts the grace period.
func (k *kit) mustStartGrace(use func(next visitor)) {
	k.Helper()
	grace := k.h.Unit / 2
	v := k.createFor(8*k.h.Unit, 16*k.h.Unit)
	next := v.with(newHash())
	k.applyChange(v, v.rotation(next.verifier, grace))
	k.wait(k.h.Unit / 4)
	k.apply(v)
	before := k.now()
	use(next)
	until := k.load(v).Tokens.PreviousUntil
	earliest, latest := before.Add(-k.h.Slack).Truncate(time.Millisecond), k.now().Add(k.h.Slack)
	if until.Before(earliest.Add(grace)) || until.After(latest.Add(grace)) {
		k.Fatalf("the grace period ends at %v, want %v after %v", until, grace, before)
	}
	k.mustHaveStatus(next, driver.Current)
	k.wait(k.h.Unit / 8)
	use(next)
	if again := k.load(v).Tokens.PreviousUntil; !again.Equal(until) {
		k.Errorf("the second use moved the end of the grace period from %v to %v", until, again)
	}
	k.waitUntilJustBefore(until)
	k.apply(v)
	k.touch(v)
	k.waitUntil(until)
	k.mustRefuse(v, driver.ErrMoved, v.change(add("n", 1)))
	k.mustRefuseTouch(v, v)
	k.mustHaveStatus(v, driver.Unknown)
	k.apply(next)
}

// mustRefuseTouch checks that v refuses a touch with another token, and that the touch has no
// effect.
func (k *kit) mustRefuseTouch(v, with visitor) {
	k.Helper()
	before := k.load(v)
	if err := k.store.Touch(k.Context(), v.id, with.verifier); !errors.Is(err, driver.ErrMoved) {
		k.Errorf("Touch: %v, want ErrMoved", err)
	}
	if after := k.load(v); !same(before, after) {
		k.Errorf("before a refused touch: %s\nafter:                 %s", text(before), text(after))
	}
}

func (k *kit) mustHaveStatus(v visitor, want driver.TokenStatus) {
	k.Helper()
	r, now := k.loadAt(v)
	if got := r.Tokens.Status(v.verifier, now); got != want {
		k.Errorf("the status of the token is %v, want %v; the tokens are %+v", got, want, r.Tokens)
	}
}
