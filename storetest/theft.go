package storetest

import (
	"time"

	"github.com/coatcheck-go/session/driver"
)

// theftCases: a refused token counts as stolen if it was used and its successor was used, too. A
// visitor whose browser got a token late, or not at all, is no thief.
var theftCases = []testCase{
	{
		name: "theft/renewal-lost",
		why: "P3: If the response with a renewed token was lost, the visitor still has the old token. The old " +
			"token counts as stolen only after the first use of the new one.",
		run: func(k *kit) {
			for _, use := range []func(visitor){
				func(next visitor) { k.apply(next) },
				k.touch,
				func(next visitor) { k.mustRenew(next, next.renewal(newHash())) },
			} {
				v := k.create()
				next := v.with(newHash())
				k.mustRenew(v, v.renewal(next.verifier))
				k.mustJudge(v, 0, false)
				if r, now := k.loadAt(v); !r.TouchDue(next.verifier, now) || r.TouchDue(v.verifier, now) {
					k.Errorf("a touch is due with the tokens %+v: %v, want only with the new one", r.Tokens,
						r.TouchDue(next.verifier, now))
				}
				until := k.load(v).Tokens.PreviousUntil
				use(next)
				k.mustJudge(v, 0, true)
				if r := k.load(v); r.Tokens.Current == next.verifier && !r.Tokens.PreviousUntil.Equal(until) {
					k.Errorf("the first use of the new token moved PreviousUntil from %v to %v", until, r.Tokens.PreviousUntil)
				}
			}
		},
	},
	{
		name: "theft/renewal-own-use",
		why: "P3: The request that renewed a token goes on with the new one. Its changes do not show that the " +
			"browser has the new token.",
		run: func(k *kit) {
			v := k.create()
			lost, next := v.with(newHash()), v.with(newHash())
			k.mustRenew(v, v.renewal(lost.verifier))
			own := lost.change(add("n", 1))
			own.Issued = true
			k.applyChange(v, own)
			k.mustJudge(v, 0, false)
			again := lost.renewal(next.verifier, add("n", 1))
			again.Issued = true
			k.mustRenew(v, again)
			k.mustRefuse(v, driver.ErrMoved, lost.change())
			k.mustHaveStatus(v, driver.Superseded)
			if g := k.load(v).Tokens.Generation; g != 1 {
				k.Errorf("after two renewals by one request the generation is %d, want 1", g)
			}
			k.mustJudge(v, 0, false)
			k.apply(next)
			k.mustJudge(v, 0, true)
			k.mustJudge(lost, 1, false)
			k.mustHave(v, "n", "2")
		},
	},
	{
		name: "theft/own-rotation",
		why: "P3: A request that renewed a token does not rotate it. A rotation would accept the token from " +
			"before the renewal again.",
		run: func(k *kit) {
			v := k.create()
			next := v.with(newHash())
			k.mustRenew(v, v.renewal(next.verifier))
			c := next.rotation(newHash(), time.Hour, add("n", 1))
			c.Issued = true
			k.mustNotRenew(v, c)
			k.mustHaveStatus(v, driver.Superseded)
			k.mustHave(v, "n", "1")
		},
	},
	{
		name: "theft/renewal-overtakes",
		why: "P3: A renewal with the old token, while a rotated token is on its way, keeps the generation. The " +
			"rotated token may arrive last and is not stolen.",
		run: func(k *kit) {
			v := k.create()
			late, next := v.with(newHash()), v.with(newHash())
			k.mustRenew(v, v.rotation(late.verifier, time.Hour))
			k.mustRenew(v, v.renewal(next.verifier))
			if r := k.load(v); r.Tokens.Generation != 1 || r.Tokens.Previous != v.verifier || r.Tokens.PreviousAccepted {
				k.Errorf("the tokens are %+v, want generation 1, and the first token as superseded", r.Tokens)
			}
			k.mustHaveStatus(v, driver.Superseded)
			k.mustRefuse(v, driver.ErrMoved, v.change())
			k.mustRefuse(v, driver.ErrMoved, late.change())
			k.mustJudge(late, 1, false)
			k.mustJudge(v, 0, false)
			k.apply(next)
			k.mustJudge(late, 1, false)
			k.mustJudge(v, 0, true)
			last := v.with(newHash())
			k.mustRenew(v, next.renewal(last.verifier))
			k.apply(last)
			k.mustJudge(late, 1, false)
			k.mustJudge(next, 1, true)
		},
	},
	{
		name: "theft/rotation-overtakes",
		why: "P3: A rotated token that was replaced before its first use is never stolen, also if it arrives " +
			"after its successors were used. The token of the same generation that was used is stolen then.",
		run: func(k *kit) {
			v := k.create()
			late, next := v.with(newHash()), v.with(newHash())
			k.mustRenew(v, v.rotation(late.verifier, time.Millisecond))
			k.mustRenew(v, v.rotation(next.verifier, time.Millisecond))
			k.apply(next)
			k.mustJudge(v, 0, true)
			for _, generation := range []uint32{2, 3} {
				k.waitUntil(k.load(v).Tokens.PreviousUntil)
				last := v.with(newHash())
				k.mustRenew(v, v.with(k.load(v).Tokens.Current).rotation(last.verifier, time.Millisecond))
				k.mustJudge(late, 1, false)
				k.mustJudge(next, 1, generation == 3)
				k.touch(last)
				k.mustJudge(late, 1, false)
				k.mustJudge(next, 1, true)
				k.mustJudge(v, 0, true)
			}
		},
	},
	{
		name: "theft/not-hidden",
		why: "P3: A thief who makes tokens that are never used does not hide the visitor's own token. That " +
			"token has another generation, or is the one of its generation that was used.",
		run: func(k *kit) {
			v := k.create()
			used := []visitor{v}
			mustJudgeAll := func(unused visitor) {
				k.waitUntil(k.load(v).Tokens.PreviousUntil)
				for g, old := range used {
					k.mustJudge(old, uint32(g), true)
				}
				k.mustJudge(unused, 4, false)
			}
			var unused visitor
			for generation := range 4 {
				unused = v.with(newHash())
				next, from := v.with(newHash()), used[generation]
				k.mustRenew(v, from.rotation(unused.verifier, time.Millisecond))
				k.mustRenew(v, from.rotation(next.verifier, time.Millisecond))
				k.apply(next)
				mustJudgeAll(unused)
				used = append(used, next)
			}
			last := v.with(newHash())
			k.mustRenew(v, used[4].rotation(last.verifier, time.Millisecond))
			k.apply(last)
			mustJudgeAll(unused)
			if r := k.load(v); r.Tokens.Generation != 5 {
				k.Errorf("the tokens are %+v, want generation 5", r.Tokens)
			}
		},
	},
}

// mustJudge checks whether a token of the given generation counts as stolen, if a request with it
// begins a day later.
func (k *kit) mustJudge(v visitor, generation uint32, want bool) {
	k.Helper()
	r, now := k.loadAt(v)
	if got := r.Tokens.Stolen(v.verifier, generation, now.Add(24*time.Hour)); got != want {
		k.Errorf("the token of generation %d counts as stolen: %v, want %v; the tokens are %+v", generation, got, want, r.Tokens)
	}
}
