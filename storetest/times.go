package storetest

import (
	"time"

	"github.com/coatcheck-go/session/driver"
)

// timeCases: sessions end on time, by the store's clock.
var timeCases = []testCase{
	{
		name: "time/idle",
		why:  "P5: a session that is not used ends at its idle limit, to the millisecond, and reading it is no use that the store writes down.",
		run: func(k *kit) {
			v := k.createFor(k.h.Unit, 4*k.h.Unit, set("theme", `"dark"`))
			ends := k.load(v).Created.Add(k.h.Unit)
			k.wait(k.h.Unit / 2)
			k.load(v)
			k.justBefore(ends)
			k.load(v)
			k.at(ends)
			k.gone(v)
		},
	},
	{
		name: "time/touch-prolongs",
		why:  "P5: a session in use stays, also one that is only ever read: its touch moves the end by the whole idle limit.",
		run: func(k *kit) {
			k.prolongs(func(v visitor) { k.touch(v) })
		},
	},
	{
		name: "time/change-prolongs",
		why:  "P5: a change is a use, too, with no touch besides.",
		run: func(k *kit) {
			k.prolongs(func(v visitor) { k.apply(v, add("n", 1)) })
			k.prolongs(func(v visitor) { k.apply(v) })
		},
	},
	{
		name: "time/refused-does-not-prolong",
		why:  "P5: what is refused is no use: a visitor with a wrong or an old token does not keep a session alive.",
		run: func(k *kit) {
			v := k.createFor(k.h.Unit, 4*k.h.Unit, set("s", `"x"`))
			ends := k.load(v).Created.Add(k.h.Unit)
			k.wait(k.h.Unit / 2)
			thief := v.with(newHash())
			k.refused(v, driver.ErrMoved, thief.change(add("n", 1)))
			k.touchRefused(v, thief)
			k.refusedOp(v, driver.ErrNotInteger, 0, add("s", 1))
			k.at(ends)
			k.gone(v)
		},
	},
	{
		name: "time/touch-interval",
		why: "P8: a touch that would prolong by no more than the interval writes nothing: each write makes every node drop its copy " +
			"of the session.",
		run: func(k *kit) {
			v := k.createFor(k.h.Unit, 4*k.h.Unit)
			interval := driver.TouchInterval(k.h.Unit)
			before := k.load(v)
			if k.h.Slack == 0 {
				k.at(before.Seen.Add(interval))
			}
			k.touch(v)
			if after := k.load(v); k.h.Slack == 0 && !same(before, after) {
				k.Errorf("a touch that is not due made of %s\n%s", text(before), text(after))
			}
			k.at(k.load(v).Seen.Add(interval + time.Millisecond))
			before = k.load(v)
			start := k.now()
			k.touch(v)
			after := k.load(v)
			if after.Revision != before.Revision+1 || after.Seen.Before(start.Add(-k.h.Slack).Truncate(time.Millisecond)) {
				k.Errorf("a touch that is due made of %s\n%s", text(before), text(after))
			}
			k.wholeMilliseconds(after)
			k.touch(v)
			if again := k.load(v); k.h.Slack == 0 && !same(after, again) {
				k.Errorf("a second touch made of %s\n%s", text(after), text(again))
			}
		},
	},
	{
		name: "time/deadline",
		why:  "P5: the absolute deadline ends a session that is in use all the time. No touch, change, clearing or renewal moves it.",
		run:  deadline,
	},
	{
		name: "time/deadline-before-idle",
		why:  "P5: where the deadline comes before the idle limit's end, it is what counts.",
		run: func(k *kit) {
			v := k.createFor(4*k.h.Unit, k.h.Unit)
			ends := k.load(v).Created.Add(k.h.Unit)
			k.wait(k.h.Unit / 2)
			k.apply(v, add("n", 1))
			k.touch(v)
			k.justBefore(ends)
			k.load(v)
			k.at(ends)
			k.gone(v)
		},
	},
	{
		name: "time/near-deadline",
		why:  "P5: near the deadline a touch cannot prolong any more, and must not write on every request until then.",
		run: func(k *kit) {
			u := k.h.Unit
			v := k.createFor(4*u, 4*u)
			k.wait(u)
			r, now := k.loadAt(v)
			if r.TouchDue(v.verifier, now) {
				k.Error("a touch is due that would prolong nothing")
			}
			k.touch(v)
			if after := k.load(v); !same(r, after) {
				k.Errorf("the touch made of %s\n%s", text(r), text(after))
			}
		},
	},
	{
		name: "time/expired-then-create",
		why:  "P2: expired is ended: the id can be created anew, also before the old record's memory was given back, and it is another session.",
		run: func(k *kit) {
			old := k.createFor(k.h.Unit, 4*k.h.Unit, set("theme", `"dark"`))
			k.at(k.load(old).Created.Add(k.h.Unit))
			v := newVisitor()
			v.id = old.id
			if _, err := k.store.Create(k.Context(), v.id, v.origin(longIdle, longLifetime), v.change(add("n", 1))); err != nil {
				k.Fatalf("Create: %v", err)
			}
			k.has(v, "n", "1")
			k.refused(v, driver.ErrMoved, old.change())
			if got := k.load(v); got.Revision != 1 || got.Secret != v.secret {
				k.Errorf("the record is %s", text(got))
			}
		},
	},
	{
		name: "time/passes",
		why:  "P5: the store's time goes on, and every time that it writes comes from it: nodes compare store times with store times.",
		run: func(k *kit) {
			v := k.createFor(8*k.h.Unit, 16*k.h.Unit)
			before := k.now()
			d := k.h.Unit / 2
			k.wait(d)
			now := k.now()
			if passed := now.Sub(before); passed < d-k.h.Slack || k.h.Slack == 0 && passed > d+time.Second {
				k.Errorf("%v passed by the store's clock, want %v", passed, d)
			}
			res := k.apply(v)
			if r := k.load(v); !r.Seen.Equal(res.Now) || res.Now.Before(now.Add(-k.h.Slack).Truncate(time.Millisecond)) {
				k.Errorf("a change at %v was seen at %v, after %v", res.Now, r.Seen, now)
			}
			k.wholeMilliseconds(k.load(v), res.Now)
		},
	},
	{
		name: "time/whole-milliseconds",
		why:  "Limits have no part below the millisecond, whatever the application asks for: the format has none, and stores must not differ.",
		run: func(k *kit) {
			v := k.createFor(time.Hour+1999*time.Microsecond, 2*time.Hour+time.Nanosecond)
			r := k.load(v)
			k.wholeMilliseconds(r)
			if r.Idle != time.Hour+time.Millisecond || r.Deadline.Sub(r.Created) != 2*time.Hour {
				k.Errorf("the limits are %v and %v, want the whole milliseconds of what was asked for", r.Idle, r.Deadline.Sub(r.Created))
			}
		},
	},
	{
		name: "time/years",
		why:  "P5: long limits are kept exactly: months and years overflow no number of milliseconds, and are not cut.",
		run: func(k *kit) {
			const day = 24 * time.Hour
			v := k.createFor(365*day, 3650*day)
			if r := k.load(v); r.Idle != 365*day || !r.Deadline.Equal(r.Created.Add(3650*day)) {
				k.Errorf("the record is %s", text(r))
			}
			if k.h.Unit < time.Minute {
				return
			}
			month := k.createFor(30*day, 3650*day)
			k.wait(30*day - time.Millisecond)
			k.load(month)
			k.wait(time.Millisecond)
			k.gone(month)
			k.load(v)
		},
	},
	{
		name:  "time/leaves-nothing",
		why:   "P10: expired sessions give their memory back, whether or not others come: most visitors never come again.",
		needs: func(h *Harness) bool { return h.Len != nil && h.Unit >= time.Minute },
		run: func(k *kit) {
			for range 300 {
				v := k.createFor(k.h.Unit, 4*k.h.Unit)
				k.apply(v, add("n", 1))
			}
			if got := k.h.Len(k.T, k.store); got != 300 {
				k.Errorf("the store has %d sessions, want 300", got)
			}
			k.wait(k.h.Unit / 2)
			k.create()
			k.wait(k.h.Unit/2 + 5*time.Minute)
			if got := k.h.Len(k.T, k.store); got != 1 {
				k.Errorf("five minutes after 300 of 301 sessions have expired the store has %d, want 1", got)
			}
		},
	},
}

// prolongs checks that use moves the end of a session by the idle limit.
func (k *kit) prolongs(use func(v visitor)) {
	k.Helper()
	u := k.h.Unit
	v := k.createFor(u, 4*u)
	k.wait(u / 2)
	use(v)
	r := k.load(v)
	if moved := r.Seen.Sub(r.Created); moved < u/2-time.Millisecond {
		k.Errorf("used after %v, the record says %v", u/2, moved)
	}
	ends := r.Seen.Add(u)
	k.justBefore(ends)
	k.load(v)
	k.at(ends)
	k.gone(v)
}

func deadline(k *kit) {
	u := k.h.Unit
	v := k.createFor(u, 2*u)
	want := k.load(v).Deadline
	same := func(after string) {
		k.Helper()
		if got := k.load(v).Deadline; !got.Equal(want) {
			k.Errorf("the deadline after %s is %v, want %v", after, got, want)
		}
	}
	k.wait(u / 2)
	k.touch(v)
	same("a touch")
	k.wait(u / 2)
	k.apply(v, add("n", 1))
	same("a change")
	next := v.with(newHash())
	k.applyChange(v, v.renewal(next.verifier))
	same("a renewal")
	last := v.with(newHash())
	k.applyChange(v, next.rotation(last.verifier, u))
	same("a rotation")
	k.wait(u / 2)
	k.apply(last, clearAll())
	same("clearing")
	k.justBefore(want)
	k.touch(last)
	k.apply(last, add("n", 1))
	same("a use shortly before it")
	k.at(want)
	k.gone(last)
	k.gone(v)
}

// now is the store's time. It loads a session of its own.
func (k *kit) now() time.Time {
	k.Helper()
	if k.clock == nil {
		v := newVisitor()
		const years = 100 * 365 * 24 * time.Hour
		if _, err := k.store.Create(k.Context(), v.id, v.origin(years, years), v.change()); err != nil {
			k.Fatalf("Create: %v", err)
		}
		k.clock = &v
	}
	_, now := k.loadAt(*k.clock)
	return now
}

// at waits until t by the store's clock has certainly come.
func (k *kit) at(t time.Time) {
	k.Helper()
	k.wait(t.Sub(k.now()) + k.h.Slack)
	if now := k.now(); now.Before(t) {
		k.Fatalf("the harness waited until %v by the store's clock, asked for %v", now, t)
	}
}

// justBefore waits until shortly before t: a millisecond, or what the harness is off by.
func (k *kit) justBefore(t time.Time) {
	k.Helper()
	k.wait(t.Sub(k.now()) - max(k.h.Slack, time.Millisecond))
}

// liveBefore waits until shortly before t, and checks that a session is there that ends then. It returns false if the machine was too slow, and t
// has come by the store's clock.
func (k *kit) liveBefore(v visitor, t time.Time) bool {
	k.Helper()
	k.justBefore(t)
	_, _, err := k.store.Load(k.Context(), v.id)
	if err != nil && k.h.Slack > 0 && !k.now().Before(t) {
		return false
	}
	if err != nil {
		k.Fatalf("Load of a session that ends at %v, before that: %v", t, err)
	}
	return true
}

// inTime runs a part of a case until the machine was fast enough for it.
func (k *kit) inTime(part func(*kit) bool) {
	k.Helper()
	for range 5 {
		if part(k) {
			return
		}
	}
	k.Fatal("the machine is too slow for the harness's Unit")
}
