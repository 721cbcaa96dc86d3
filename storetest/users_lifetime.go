package storetest

import (
	"errors"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// lifetimeCases: a user's session begins at the sign-in, and its end is reported.
var lifetimeCases = []testCase{
	{
		name: "sign-in/full-limit",
		why: "P5: A session has its full idle limit from the moment that SignIn returns, before its first use. " +
			"Otherwise a response that streams for longer loses it.",
		run: fullLimit,
	},
	{
		name: "user/end-reported",
		why: "P2: A request that began before its session was ended with others, or for the limit, learns that " +
			"the session has just ended.",
		run: func(k *kit) {
			o := newOwner()
			all := k.signIns(o, 4)
			endUser := func(sel driver.Selection, want ...visitor) func() {
				return func() { k.mustEndUser(o, sel, want...) }
			}
			k.mustReportEnd(k.store, endUser(driver.Selection{Only: idsOf(all[3])}, all[3]), all[3])
			newest := o.visitor()
			k.mustReportEnd(k.store, func() { k.mustSignIn(newest, o.limited(newest, 3, false)) }, all[0])
			k.mustReportEnd(k.store, endUser(driver.Selection{Except: idsOf(all[2])}, all[1], newest), all[1])
			anonymous := k.create()
			k.pause()
			everyone := func() {
				if err := k.users().EndAll(k.Context()); err != nil {
					k.Fatalf("EndAll: %v", err)
				}
			}
			k.mustReportEnd(k.store, everyone, anonymous)
			for _, v := range []visitor{all[2], all[0]} {
				if _, _, err := k.store.Load(k.Context(), v.id); !errors.Is(err, driver.ErrEnded) {
					k.Errorf("Load after EndAll: %v, want ErrEnded", err)
				}
			}
		},
	},
}

// fullLimit signs in in all ways, and checks when the new session expires.
func fullLimit(k *kit) {
	o := newOwner()
	for _, most := range []int{0, 3} {
		for _, from := range [][]visitor{nil, {k.create()}, {k.signIn(o)}, {k.signIn(newOwner())}, {newVisitor()}} {
			for _, idle := range []time.Duration{longIdle, 61 * time.Second, 30 * time.Second} {
				v := o.visitor()
				in := o.limited(v, most, false, from...)
				in.Spec.Idle = idle
				k.pause()
				before := k.now()
				res := k.mustSignIn(v, in)
				r := k.load(v)
				if least := before.Add(idle).Truncate(time.Millisecond); r.Expires().Before(least) {
					k.Errorf("limit %d, idle %v: the session expires at %v, want %v at least", most, idle, r.Expires(), least)
				}
				if res.Record != nil && !res.Record.Expires().Equal(r.Expires()) {
					k.Errorf("the result expires at %v, the stored record at %v", res.Record.Expires(), r.Expires())
				}
				from = []visitor{v} // the next sign-in replaces this session
			}
		}
	}
}
