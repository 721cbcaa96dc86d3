package storetest

import (
	"time"

	"github.com/coatcheck-go/session/driver"
)

// timeCases: sessions expire on time, by the store's clock.
var timeCases = []testCase{
	{
		name: "time/idle",
		why: "P5: A session that is not used ends at its idle limit, to the millisecond. The store does not " +
			"count a read as a use.",
		timed: true,
		run: func(k *kit) {
			v := k.createFor(k.h.Unit, 4*k.h.Unit, set("theme", `"dark"`))
			ends := k.load(v).Created.Add(k.h.Unit)
			k.wait(k.h.Unit / 2)
			k.load(v)
			k.waitUntilJustBefore(ends)
			k.load(v)
			k.waitUntil(ends)
			k.mustBeEnded(v)
		},
	},
	{
		name: "time/touch-prolongs",
		why: "P5: A session in use stays, also one that is only read: a touch moves the end by the whole idle " +
			"limit.",
		timed: true,
		run: func(k *kit) {
			k.mustExtend(func(v visitor) { k.touch(v) })
		},
	},
	{
		name:  "time/change-prolongs",
		why:   "P5: A change is a use, too, without a touch.",
		timed: true,
		run: func(k *kit) {
			k.mustExtend(func(v visitor) { k.apply(v, add("n", 1)) })
			k.mustExtend(func(v visitor) { k.apply(v) })
		},
	},
	{
		name: "time/refused-does-not-prolong",
		why: "P5: A refused call is not a use. A client with a wrong or an old token does not keep a session " +
			"alive.",
		timed: true,
		run: func(k *kit) {
			v := k.createFor(k.h.Unit, 4*k.h.Unit, set("s", `"x"`))
			ends := k.load(v).Created.Add(k.h.Unit)
			k.wait(k.h.Unit / 2)
			attacker := v.with(newHash())
			k.mustRefuse(v, driver.ErrMoved, attacker.change(add("n", 1)))
			k.mustRefuseTouch(v, attacker)
			k.mustRefuseOp(v, driver.ErrNotInteger, 0, add("s", 1))
			k.waitUntil(ends)
			k.mustBeEnded(v)
		},
	},
	{
		name: "time/touch-interval",
		why: "P8: A touch that would extend the session by no more than the interval writes nothing, because " +
			"each write makes every node drop its copy.",
		timed: true,
		run: func(k *kit) {
			v := k.createFor(k.h.Unit, 4*k.h.Unit)
			interval := driver.TouchInterval(k.h.Unit)
			before := k.load(v)
			if k.h.Slack == 0 {
				k.waitUntil(before.Seen.Add(interval))
			}
			k.touch(v)
			if after := k.load(v); k.h.Slack == 0 && !same(before, after) {
				k.Errorf("before a touch that is not due: %s\nafter:                         %s", text(before), text(after))
			}
			k.waitUntil(k.load(v).Seen.Add(interval + time.Millisecond))
			before = k.load(v)
			start := k.now()
			k.touch(v)
			after := k.load(v)
			if after.Revision != before.Revision+1 || after.Seen.Before(start.Add(-k.h.Slack).Truncate(time.Millisecond)) {
				k.Errorf("before a touch that is due: %s\nafter:                     %s", text(before), text(after))
			}
			k.mustBeWholeMilliseconds(after)
			k.touch(v)
			if again := k.load(v); k.h.Slack == 0 && !same(after, again) {
				k.Errorf("before a second touch: %s\nafter:                %s", text(after), text(again))
			}
		},
	},
	{
		name: "time/deadline",
		why: "P5: The absolute deadline ends a session even if it is always in use. No touch, change, clearing " +
			"or renewal moves the deadline.",
		timed: true,
		run:   deadline,
	},
	{
		name:  "time/deadline-before-idle",
		why:   "P5: If the deadline is earlier than the end of the idle limit, the session ends at the deadline.",
		timed: true,
		run: func(k *kit) {
			v := k.createFor(4*k.h.Unit, k.h.Unit)
			ends := k.load(v).Created.Add(k.h.Unit)
			k.wait(k.h.Unit / 2)
			k.apply(v, add("n", 1))
			k.touch(v)
			k.waitUntilJustBefore(ends)
			k.load(v)
			k.waitUntil(ends)
			k.mustBeEnded(v)
		},
	},
	{
		name:  "time/near-deadline",
		why:   "P5: Near the deadline a touch cannot extend the session, and must not write on every request.",
		timed: true,
		run: func(k *kit) {
			u := k.h.Unit
			v := k.createFor(4*u, 4*u)
			k.wait(u / 2)
			r, now := k.loadAt(v)
			if r.TouchDue(v.verifier, now) {
				k.Error("a touch is due that would not extend the session")
			}
			k.touch(v)
			if after := k.load(v); !same(r, after) {
				k.Errorf("before the touch: %s\nafter:           %s", text(r), text(after))
			}
		},
	},
	{
		name: "time/first-use",
		why: "P10: A session that its visitor never uses ends at RecordSpec.FirstUse. Bots do not come back, " +
			"and what the creating request does itself is not a use.",
		timed: true,
		run: func(k *kit) {
			u := k.h.Unit
			for _, first := range []time.Duration{0, 2 * u, 3 * u} {
				if r := k.load(k.createUnused(first, 2*u, 8*u)); !r.Seen.Equal(r.Created) {
					k.Errorf("FirstUse %v with Idle %v: created at %v, last use %v", first, 2*u, r.Created, r.Seen)
				}
			}
			v := k.createUnused(u+time.Microsecond, 2*u, 8*u)
			ends := k.load(v).Created.Add(u)
			k.wait(u / 2)
			k.applyChange(v, &driver.Change{Verifier: v.verifier, Issued: true, Ops: []driver.Op{add("n", 1)}})
			r := k.load(v)
			if !r.Expires().Equal(ends) {
				k.Errorf("the session ends at %v, want %v", r.Expires(), ends)
			}
			k.mustBeWholeMilliseconds(r)
			k.waitUntilJustBefore(ends)
			k.load(v)
			k.waitUntil(ends)
			k.mustBeEnded(v)
		},
	},
	{
		name: "time/first-use-prolongs",
		why: "P5: The first use gives a session its whole idle limit, whether it is a touch or a change. The " +
			"deadline stays.",
		timed: true,
		run: func(k *kit) {
			u := k.h.Unit
			touched, changed := k.createUnused(u, 2*u, 8*u), k.createUnused(u, 2*u, 8*u)
			renewed := k.createUnused(u, 2*u, 8*u)
			k.wait(u / 2)
			k.touch(touched)
			k.apply(changed, add("n", 1))
			next := renewed.with(newHash())
			k.applyChange(renewed, renewed.renewal(next.verifier))
			for _, v := range []visitor{touched, changed, next} {
				r := k.load(v)
				if moved := r.Seen.Sub(r.Created); moved < u/2-time.Millisecond || !r.Deadline.Equal(r.Created.Add(8*u)) {
					k.Errorf("a session was used after %v, and the record says %s", u/2, text(r))
				}
			}
			ends := k.load(next).Seen.Add(2 * u) // the last use
			k.waitUntilJustBefore(k.load(touched).Seen.Add(2 * u))
			for _, v := range []visitor{touched, changed, next} {
				k.load(v)
			}
			k.waitUntil(ends)
			for _, v := range []visitor{touched, changed, next} {
				k.mustBeEnded(v)
			}
		},
	},
	{
		name: "time/expired-then-create",
		why: "P2: An expired session has ended. Its id can be created again, even before the store has removed " +
			"the old record, and it is another session.",
		timed: true,
		run: func(k *kit) {
			old := k.createFor(k.h.Unit, 4*k.h.Unit, set("theme", `"dark"`))
			k.waitUntil(k.load(old).Created.Add(k.h.Unit))
			v := newVisitor()
			v.id = old.id
			if _, err := k.tryCreate(v, add("n", 1)); err != nil {
				k.Fatalf("Create: %v", err)
			}
			k.mustHave(v, "n", "1")
			k.mustRefuse(v, driver.ErrMoved, old.change())
			if got := k.load(v); got.Revision != 1 || got.Secret != v.secret {
				k.Errorf("the record is %s", text(got))
			}
		},
	},
	{
		name: "time/passes",
		why: "P5: The store's time advances, and every time that the store writes comes from it. Nodes compare " +
			"the store's times with each other.",
		timed: true,
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
				k.Errorf("the last use after a change at %v is %v, and the time before was %v", res.Now, r.Seen, now)
			}
			k.mustBeWholeMilliseconds(k.load(v), res.Now)
		},
	},
	{
		name: "time/whole-milliseconds",
		why: "Limits are in whole milliseconds, whatever the application asks for. The format has nothing " +
			"finer, and stores must not differ.",
		run: func(k *kit) {
			v := k.createFor(time.Hour+1999*time.Microsecond, 2*time.Hour+time.Nanosecond)
			r := k.load(v)
			k.mustBeWholeMilliseconds(r)
			if r.Idle != time.Hour+time.Millisecond || r.Deadline.Sub(r.Created) != 2*time.Hour {
				k.Errorf("the limits are %v and %v, want whole milliseconds", r.Idle, r.Deadline.Sub(r.Created))
			}
		},
	},
	{
		name: "time/years",
		why: "P5: Long limits are exact: months and years do not overflow a number of milliseconds, and are " +
			"not cut.",
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
			ends := k.load(month).Expires()
			k.waitUntilJustBefore(ends)
			k.load(month)
			k.waitUntil(ends)
			k.mustBeEnded(month)
			k.load(v)
		},
	},
	{
		name: "time/leaves-nothing",
		why: "P10: The memory of expired sessions is freed, whether or not other sessions are created. Most " +
			"visitors never come back.",
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
				k.Errorf("five minutes after 300 of 301 sessions expired, the store has %d, want 1", got)
			}
		},
	},
}

// createUnused stores a session whose first use must come within first.
func (k *kit) createUnused(first, idle, lifetime time.Duration) visitor {
	k.Helper()
	v := newVisitor()
	spec := v.spec(idle, lifetime)
	spec.FirstUse = first
	res, err := k.store.Create(k.Context(), v.id, spec, v.change(add("n", 1)))
	if err != nil {
		k.Fatalf("Create: %v", err)
	}
	k.mustMatchStored(v, res)
	return v
}

// mustExtend checks that use moves the end of a session by the idle limit.
func (k *kit) mustExtend(use func(v visitor)) {
	k.Helper()
	u := k.h.Unit
	v := k.createFor(u, 4*u)
	k.wait(u / 2)
	use(v)
	r := k.load(v)
	if moved := r.Seen.Sub(r.Created); moved < u/2-time.Millisecond {
		k.Errorf("the session was used after %v, and the record says after %v", u/2, moved)
	}
	ends := r.Seen.Add(u)
	k.waitUntilJustBefore(ends)
	k.load(v)
	k.waitUntil(ends)
	k.mustBeEnded(v)
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
	k.waitUntilJustBefore(want)
	k.touch(last)
	k.apply(last, add("n", 1))
	same("a use shortly before it")
	k.waitUntil(want)
	k.mustBeEnded(last)
	k.mustBeEnded(v)
}

// now returns the store's time. It loads a session that only it uses.
func (k *kit) now() time.Time {
	k.Helper()
	if k.clock == nil {
		v := newVisitor()
		const years = 100 * 365 * 24 * time.Hour
		if _, err := k.store.Create(k.Context(), v.id, v.spec(years, years), v.change()); err != nil {
			k.Fatalf("Create: %v", err)
		}
		k.clock = &v
	}
	_, now := k.loadAt(*k.clock)
	return now
}

// waitUntil waits until t has certainly come by the store's clock.
func (k *kit) waitUntil(t time.Time) {
	k.Helper()
	k.wait(t.Sub(k.now()) + k.h.Slack)
	if now := k.now(); now.Before(t) {
		k.Fatalf("the harness waited until %v by the store's clock, want %v", now, t)
	}
}

// waitUntilJustBefore waits until a millisecond before t, or the harness's Slack if that is more.
func (k *kit) waitUntilJustBefore(t time.Time) {
	k.Helper()
	k.wait(t.Sub(k.now()) - max(k.h.Slack, time.Millisecond))
}
