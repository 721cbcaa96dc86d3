package storetest

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// renewal changes v's token, and rotation does so with a grace.
func (v visitor) renewal(to driver.Hash, ops ...driver.Op) *driver.Change {
	return &driver.Change{Verifier: v.verifier, Ops: ops, Renew: &driver.Renewal{Verifier: to}}
}

func (v visitor) rotation(to driver.Hash, grace time.Duration, ops ...driver.Op) *driver.Change {
	return &driver.Change{Verifier: v.verifier, Ops: ops, Renew: &driver.Renewal{Verifier: to, Grace: grace}}
}

// tokenCases: which tokens open a session, while they change.
var tokenCases = []testCase{
	{
		name: "token/foreign",
		why:  "P3: who knows a session's id (it is public) and not its token changes nothing and prolongs nothing.",
		run: func(k *kit) {
			v := k.create(set("theme", `"dark"`))
			for _, bad := range []driver.Hash{newHash(), {}, driver.Hash(v.secret), v.id.Selector} {
				thief := v.with(bad)
				k.refused(v, driver.ErrMoved, thief.change(set("theme", `"lite"`)))
				k.refused(v, driver.ErrMoved, thief.change())
				k.refused(v, driver.ErrMoved, thief.renewal(newHash()))
				k.refused(v, driver.ErrMoved, thief.rotation(newHash(), time.Hour))
				k.touchRefused(v, thief)
				if r, now := k.loadAt(v); r.Tokens.Status(bad, now) != driver.Unknown {
					k.Error("a token that was never issued means something to the record")
				}
			}
		},
	},
	{
		name: "token/renew",
		why: "P3: when privilege changes the token does, in one step, and the one before is dead at once. For a minute it is told apart " +
			"from one that nobody issued, so that a request under way does not overwrite the new cookie.",
		run: renew,
	},
	{
		name: "token/renew-with-changes",
		why:  "P1: what is changed together with the token is stored with it or not at all: no new privilege under the old token.",
		run: func(k *kit) {
			v := k.create(set("role", `"user"`))
			next := v.with(newHash())
			k.refused(v, driver.ErrNotInteger, v.renewal(next.verifier, set("x", `1`), add("role", 1)))
			k.refused(v, driver.ErrMoved, next.change())
			res := k.applyChange(v, v.renewal(next.verifier, set("role", `"admin"`), add("visits", 1)))
			k.values(res, nil, "1")
			k.has(v, "role", `"admin"`, "visits", "1")
			k.refused(v, driver.ErrMoved, v.change(set("role", `"user"`)))
		},
	},
	{
		name: "token/renew-repeated",
		why:  "P1: a node that did not hear the outcome of a renewal repeats it: it succeeds, and nothing is done twice.",
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
				k.Errorf("a repeated renewal made of %s\n%s", text(before), text(after))
			}
			k.apply(next, add("visits", 10))
			k.applyChange(v, c)
			k.has(v, "visits", "11")
			last := next.with(newHash())
			k.applyChange(v, next.renewal(last.verifier))
			k.refused(v, driver.ErrMoved, c) // another renewal came after it: it is no repetition any more
			k.has(v, "visits", "11")
		},
	},
	{
		name: "token/renew-at-once",
		why:  "P3: of several renewals with one token exactly one succeeds; a browser gets one new cookie, and it works.",
		run: func(k *kit) {
			v := k.create()
			next := make([]driver.Hash, 20)
			for i := range next {
				next[i] = newHash()
			}
			var won, winner atomic.Int64
			together(len(next), func(i int) {
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
		why: "P1: writes that race with a renewal are each stored and acknowledged, or refused as moved: none is lost with the old token, " +
			"and none with it is accepted once the renewal has returned.",
		run: renewAgainstWrites,
	},
	{
		name: "token/rotate",
		why: "P3: a token that is changed from time to time keeps working until the browser has shown the new one: a response with a new cookie " +
			"can get lost.",
		run: func(k *kit) {
			v := k.create()
			next := v.with(newHash())
			k.applyChange(v, v.rotation(next.verifier, time.Hour, add("n", 1)))
			for range 2 { // the browser goes on with the old one
				k.apply(v, add("n", 1))
				k.touch(v)
				k.standing(v, driver.Grace)
				k.standing(next, driver.Current)
			}
			if t := k.load(v).Tokens; t.Generation != 1 || !t.PreviousUntil.IsZero() {
				k.Errorf("the tokens are %+v, want generation 1 and no end of the grace yet", t)
			}
			k.has(v, "n", "3")
		},
	},
	{
		name: "token/rotate-again",
		why:  "P3: when the response with a rotated token was lost, a later request with the old one gets another; the lost one is dead then.",
		run: func(k *kit) {
			v := k.create()
			lost, next := v.with(newHash()), v.with(newHash())
			k.applyChange(v, v.rotation(lost.verifier, time.Hour))
			k.applyChange(v, v.rotation(next.verifier, time.Hour))
			k.refused(v, driver.ErrMoved, lost.change(add("n", 1)))
			k.standing(lost, driver.Unknown)
			k.apply(v, add("n", 1))
			k.standing(v, driver.Grace)
			k.apply(next, add("n", 1))
			k.has(v, "n", "2")
		},
	},
	{
		name: "token/rotate-confirmed",
		why:  "P3: the first use of a rotated token begins the grace of the one before, once and exactly; after it that one opens nothing.",
		run: func(k *kit) {
			k.rotateConfirmed(func(next visitor) { k.apply(next) })
			k.rotateConfirmed(func(next visitor) { k.touch(next) })
		},
	},
	{
		name: "token/rotate-late",
		why: "P3: a token whose successor is in use does not rotate any more: the request was under way, and a third token would make that of the browser " +
			"look stolen.",
		run: func(k *kit) {
			v := k.create()
			next := v.with(newHash())
			k.applyChange(v, v.rotation(next.verifier, time.Hour))
			k.apply(next)
			k.keeps(v, v.rotation(newHash(), time.Hour, add("n", 1))) // it may still write
			k.standing(next, driver.Current)
			k.keeps(v, next.rotation(newHash(), time.Hour)) // the one before has its grace
			k.standing(v, driver.Grace)
			k.standing(next, driver.Current)
		},
	},
	{
		name: "token/rotate-repeated",
		why:  "P1: a rotation that is repeated because its outcome was not heard does nothing twice, and starts no grace.",
		run: func(k *kit) {
			v := k.create()
			next := v.with(newHash())
			c := v.rotation(next.verifier, time.Hour, add("n", 1))
			k.applyChange(v, c)
			before := k.load(v)
			k.applyChange(v, c)
			if after := k.load(v); !same(before, after) {
				k.Errorf("a repeated rotation made of %s\n%s", text(before), text(after))
			}
		},
	},
	{
		name: "token/rotate-then-renew",
		why:  "P3: a renewal is meant to shut others out: it ends the grace of a rotation, too.",
		run: func(k *kit) {
			for _, confirmed := range []bool{false, true} {
				v := k.create()
				next, last := v.with(newHash()), v.with(newHash())
				k.applyChange(v, v.rotation(next.verifier, time.Hour))
				if confirmed {
					k.apply(next)
				}
				k.applyChange(v, next.renewal(last.verifier))
				k.refused(v, driver.ErrMoved, v.change())
				k.refused(v, driver.ErrMoved, next.change())
				k.standing(v, driver.Unknown)
				k.standing(next, driver.Superseded)
				k.standing(last, driver.Current)
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
	if r.Tokens.Current != next.verifier || r.Tokens.Previous != v.verifier || r.Tokens.PreviousAccepted || r.Tokens.Generation != 1 {
		k.Errorf("the tokens are %+v", r.Tokens)
	}
	if !res.Renewed || !r.Tokens.Issued.Equal(res.Now) {
		k.Errorf("Result.Renewed is %v, want true; the token was issued at %v, want %v", res.Renewed, r.Tokens.Issued, res.Now)
	}
	if want := res.Now.Add(driver.SupersededFor); !r.Tokens.PreviousUntil.Equal(want) {
		k.Errorf("the token before is remembered until %v, want %v", r.Tokens.PreviousUntil, want)
	}
	for _, at := range []struct {
		after time.Duration
		want  driver.TokenStatus
	}{{0, driver.Superseded}, {driver.SupersededFor - time.Millisecond, driver.Superseded}, {driver.SupersededFor, driver.Unknown}} {
		if got := r.Tokens.Status(v.verifier, res.Now.Add(at.after)); got != at.want {
			k.Errorf("the token before stands as %v %v after the renewal, want %v", got, at.after, at.want)
		}
	}
	if r.Secret != before.Secret || !r.Deadline.Equal(before.Deadline) || !r.Created.Equal(before.Created) || r.Revision != before.Revision+1 {
		k.Errorf("the renewal made of %s\n%s", text(before), text(r))
	}
	k.refused(v, driver.ErrMoved, v.change(add("n", 1)))
	k.refused(v, driver.ErrMoved, v.renewal(newHash()))
	k.touchRefused(v, v)
	k.apply(next, add("n", 1))
	k.touch(next)
	last := v.with(newHash())
	k.applyChange(v, next.renewal(last.verifier))
	k.standing(v, driver.Unknown)
	k.standing(next, driver.Superseded)
	k.apply(last, add("n", 1))
	k.has(v, "cart:a", "1", "n", "2")
}

func renewAgainstWrites(k *kit) {
	for range 30 {
		v := k.create()
		next := v.with(newHash())
		k.racing(v, next, "the renewal", func() error {
			_, err := k.store.Apply(k.Context(), v.id, v.renewal(next.verifier))
			return err
		})
		if k.Failed() {
			return
		}
	}
}

// racing lets eight writers add to a counter of a session while its token is changed, and checks that each is acknowledged and counted, or
// refused as moved, and that none is accepted once the change has returned. with opens the session after it.
func (k *kit) racing(v, with visitor, what string, change func() error) {
	k.Helper()
	var acknowledged atomic.Int64
	var changed atomic.Bool
	together(9, func(i int) {
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
	k.apply(with, add("n", 1))
	k.has(with, "n", decimal(acknowledged.Load()+1))
}

// rotateConfirmed lets use be the first use of a rotated token.
func (k *kit) rotateConfirmed(use func(next visitor)) {
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
	if until.Before(before.Add(-k.h.Slack).Truncate(time.Millisecond).Add(grace)) || until.After(k.now().Add(k.h.Slack).Add(grace)) {
		k.Fatalf("the grace ends at %v, want %v after %v", until, grace, before)
	}
	k.standing(next, driver.Current)
	k.wait(k.h.Unit / 8)
	use(next)
	if again := k.load(v).Tokens.PreviousUntil; !again.Equal(until) {
		k.Errorf("the second use moved the end of the grace from %v to %v", until, again)
	}
	k.justBefore(until)
	k.apply(v)
	k.touch(v)
	k.at(until)
	k.refused(v, driver.ErrMoved, v.change(add("n", 1)))
	k.touchRefused(v, v)
	k.standing(v, driver.Unknown)
	k.apply(next)
}

// touchRefused checks that a touch with a token that is none of v's is refused and leaves no trace.
func (k *kit) touchRefused(v, with visitor) {
	k.Helper()
	before := k.load(v)
	if err := k.store.Touch(k.Context(), v.id, with.verifier); !errors.Is(err, driver.ErrMoved) {
		k.Errorf("Touch: %v, want ErrMoved", err)
	}
	if after := k.load(v); !same(before, after) {
		k.Errorf("a refused touch made of %s\n%s", text(before), text(after))
	}
}

func (k *kit) standing(v visitor, want driver.TokenStatus) {
	k.Helper()
	r, now := k.loadAt(v)
	if got := r.Tokens.Status(v.verifier, now); got != want {
		k.Errorf("the token stands as %v, want %v; the tokens are %+v", got, want, r.Tokens)
	}
}
