package storetest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// eventCases: a store reports each end once.
var eventCases = []testCase{
	{
		name: "event/end-owned",
		why: "An end is reported if it ended a live session. A session that had ended before, was replaced, or " +
			"never existed is not reported.",
		able:  able[driver.EndReporter],
		timed: true,
		run: func(k *kit) {
			o := newOwner()
			all, anonymous, expired := k.signIns(o, 4), k.create(), o.visitor()
			in := o.login(expired)
			in.Spec.Idle, in.Spec.Lifetime = k.h.Unit, 2*k.h.Unit
			k.mustSignIn(expired, in)
			k.mustEndAndReport(all[0], o.hash, true)
			k.mustEndAndReport(all[0], o.hash, false)
			k.mustEndAndReport(all[1], driver.Hash{}, true)
			k.mustEndAndReport(anonymous, driver.Hash{}, true)
			k.mustEndAndReport(anonymous, driver.Hash{}, false)
			k.mustEndAndReport(newVisitor(), driver.Hash{}, false)
			k.end(all[2])
			k.mustEndAndReport(all[2], o.hash, false)
			k.waitUntil(k.load(expired).Expires())
			k.mustEndAndReport(expired, o.hash, false)
			k.mustHaveSessions(o, all[3])
			k.mustEndUser(o, driver.Selection{Only: idsOf(all[0], all[1], all[2])})
		},
	},
	{
		name: "event/end-owned-once",
		why:  "If several calls end a session at the same time, exactly one reports it.",
		able: able[driver.EndReporter],
		run: func(k *kit) {
			o := newOwner()
			once := k.signIn(o)
			for _, want := range []bool{true, false} {
				did, err := k.store.(driver.EndReporter).EndAndReport(k.Context(), once.id, o.hash, newAttempt())
				if err != nil || did != want {
					k.Errorf("EndAndReport, one after the other: %t, %v, want %t", did, err, want)
				}
			}
			for range 20 {
				v := k.signIn(o)
				var ended atomic.Int32
				var all sync.WaitGroup
				for range 4 {
					all.Go(func() {
						did, err := k.store.(driver.EndReporter).EndAndReport(k.Context(), v.id, o.hash, newAttempt())
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
				k.mustBeEnded(v)
				if n := ended.Load(); n != 1 {
					k.Errorf("%d of 5 calls ended the session, want 1", n)
				}
			}
		},
	},
	{
		name: "event/end-repeated",
		why: "A call that repeats an end because the reply was lost reports what the first call ended. " +
			"Otherwise nobody reports a theft.",
		able: able[driver.EndReporter],
		run: func(k *kit) {
			o := newOwner()
			store := k.store.(driver.EndReporter)
			for _, v := range []visitor{k.signIn(o), k.create(), newVisitor()} {
				_, _, err := k.store.Load(k.Context(), v.id)
				alive := err == nil
				mine, theirs := newAttempt(), newAttempt()
				for i, call := range []struct {
					attempt driver.Attempt
					want    bool
				}{{mine, alive}, {theirs, false}, {mine, alive}, {driver.Attempt{}, false}, {mine, alive}} {
					ended, err := store.EndAndReport(k.Context(), v.id, driver.Hash{}, call.attempt)
					if err != nil || ended != call.want {
						k.Errorf("EndAndReport, call %d: %v, %v, want %v", i, ended, err, call.want)
					}
				}
				k.mustBeEnded(v)
			}
			v := k.create()
			for i := range 2 {
				ended, err := store.EndAndReport(k.Context(), v.id, driver.Hash{}, driver.Attempt{})
				if first := i == 0; err != nil || ended != first {
					k.Errorf("EndAndReport without an attempt, call %d: %v, %v, want %v", i, ended, err, first)
				}
			}
		},
	},
	{
		name: "event/expired",
		why: "When a session of a user expires, exactly one client reports it, once. A session that was ended, " +
			"evicted or replaced did not expire, and anonymous sessions are not reported.",
		able:  able[driver.ExpiryReporter],
		timed: true,
		run:   expiresOnce,
	},
	{
		name:  "event/expired-after-reopen",
		why:   "A session that expires after a restart is reported, and not again by the next process.",
		able:  able[driver.ExpiryReporter],
		needs: func(h *Harness) bool { return h.Reopen != nil },
		timed: true,
		run: func(k *kit) {
			o := newOwner()
			v, anonymous := k.signInFor(k.h.Unit, o), k.createFor(k.h.Unit, k.h.Unit)
			at := map[driver.ID]time.Time{v.id: k.load(v).Expires()}
			k.waitUntilJustBefore(at[v.id])
			k.reopen()
			var reported expiries
			reported.listen(k.store)
			k.waitUntil(at[v.id])
			k.mustBeEnded(anonymous)
			k.mustHaveSessions(o) // the store may notice the expiry here
			reported.wait(k, k.h.Unit/2, at)
			reported.mustReportOnce(k, o, at)
			k.reopen()
			reported.listen(k.store)
			k.mustHaveSessions(o)
			k.wait(k.h.Unit / 2) // there must be no second report
			reported.mustReportOnce(k, o, at)
		},
	},
}

// expiries are the sessions whose expiry a store has reported.
type expiries struct {
	mu       sync.Mutex
	sessions []driver.ExpiredSession
}

// listen collects what a store reports.
func (x *expiries) listen(s driver.Store) {
	s.(driver.ExpiryReporter).OnExpiry(func(e driver.ExpiredSession) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.sessions = append(x.sessions, e)
	})
}

// of returns the reports of the sessions in expired, and the number of reports of other sessions.
func (x *expiries) of(expired map[driver.ID]time.Time) (reports []driver.ExpiredSession, others int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.sessions {
		if _, ok := expired[e.ID]; ok {
			reports = append(reports, e)
		} else {
			others++
		}
	}
	return reports, others
}

// wait waits until each of these sessions is reported, for most at least.
func (x *expiries) wait(k *kit, most time.Duration, expired map[driver.ID]time.Time) {
	k.Helper()
	for range 40 {
		if got, _ := x.of(expired); len(got) >= len(expired) {
			return
		}
		k.wait(max(most/40, k.h.Slack/4))
	}
}

// mustReportOnce checks that each of these sessions was reported once and correctly, and no other
// one. expired has the time at which each session expired.
func (x *expiries) mustReportOnce(k *kit, o owner, expired map[driver.ID]time.Time) {
	k.Helper()
	reports, others := x.of(expired)
	if len(reports) != len(expired) || others != 0 {
		k.Errorf("%d expired sessions and %d others are reported, want %d and none", len(reports), others, len(expired))
	}
	for _, e := range reports {
		if at := expired[e.ID]; e.Owner != o.hash || e.At.Before(at.Add(-k.h.Slack)) {
			k.Errorf("reported %+v, want owner %s and a time from %v on", e, o.hash, at)
		}
		if e.Record != nil && (e.Record.Principal == nil || e.Record.Principal.User != o.name) {
			k.Errorf("reported the record %s, want one of user %q", text(e.Record), o.name)
		}
	}
}

// signInFor signs in to a session with this idle limit, and uses it once.
func (k *kit) signInFor(idle time.Duration, o owner, from ...visitor) visitor {
	k.Helper()
	v := o.visitor()
	in := o.login(v, from...)
	in.Spec.Idle, in.Spec.Lifetime = idle, 2*idle
	k.pause()
	k.mustSignIn(v, in)
	k.touch(v)
	return v
}

// expiryScene is sessions of two users, of which some expire and others end in all other ways.
type expiryScene struct {
	o, other      owner
	stays, stays2 visitor   // of o and of other: they do not expire
	expire        []visitor // of o: they expire, the last one last
	anonymous     visitor   // it expires, and is not reported
}

// newExpiryScene makes a scene whose sessions have this idle limit.
func (k *kit) newExpiryScene(idle time.Duration) expiryScene {
	k.Helper()
	x := expiryScene{o: newOwner(), other: newOwner()}
	mine := func(from ...visitor) visitor { return k.signInFor(idle, x.o, from...) }
	theirs := func() visitor { return k.signInFor(idle, x.other) }
	x.stays = k.signIn(x.o)
	x.anonymous = k.createFor(idle, idle)
	x.expire = []visitor{mine(), mine()}
	reported, ended, endedByUser, evicted := theirs(), theirs(), theirs(), theirs()
	k.mustEndAndReport(reported, x.other.hash, true)
	k.end(ended)
	k.mustEndUser(x.other, driver.Selection{Only: idsOf(endedByUser)}, endedByUser)
	x.stays2 = x.other.visitor()
	k.mustSignIn(x.stays2, x.other.limited(x.stays2, 1, false))
	k.mustBeEnded(evicted)
	// Three sign-ins replace a session: the user's own, another user's, and an anonymous one.
	x.expire = append(x.expire, mine(mine()), mine(theirs()), mine(k.createFor(idle, idle)))
	return x
}

// expiresOnce checks the reports of two clients on one store.
func expiresOnce(k *kit) {
	var reported expiries
	reported.listen(k.store)
	second := k.store
	if k.h.Second != nil {
		if second = k.other().store; second != k.store {
			reported.listen(second)
		}
	}
	// A rehearsal with long limits shows how fast the machine is: no session may expire while the
	// scene is being made.
	start := k.now()
	k.newExpiryScene(longLifetime)
	x := k.newExpiryScene(k.h.Unit + 4*k.now().Sub(start))
	at := map[driver.ID]time.Time{}
	for _, v := range x.expire {
		at[v.id] = k.load(v).Expires()
		// Load the session from both clients, so that both know it.
		if _, _, err := second.Load(k.Context(), v.id); err != nil {
			k.Error(err)
		}
	}
	if got, others := reported.of(at); len(got)+others > 0 {
		k.Errorf("%d live sessions are reported", len(got)+others)
	}
	k.waitUntil(at[x.expire[len(x.expire)-1].id])
	k.mustBeEnded(x.anonymous)
	k.mustHaveSessions(x.o, x.stays)
	k.mustHaveSessions(x.other, x.stays2)
	reported.wait(k, k.h.Unit, at)
	k.mustHaveSessions(x.o, x.stays)
	for range 2 { // a store may notice an expiry at a sign-in: there must be no second report
		v := x.o.visitor()
		k.mustSignIn(v, x.o.login(v))
		v = x.other.visitor()
		k.mustSignIn(v, x.other.login(v))
	}
	k.wait(k.h.Unit / 4)
	reported.mustReportOnce(k, x.o, at)
}

// able reports whether a store has an optional ability.
func able[A any](s driver.Store) bool {
	_, ok := s.(A)
	return ok
}

func (k *kit) mustEndAndReport(v visitor, owner driver.Hash, want bool) {
	k.Helper()
	ended, err := k.store.(driver.EndReporter).EndAndReport(k.Context(), v.id, owner, newAttempt())
	if err != nil || ended != want {
		k.Errorf("EndAndReport: %v, %v, want %v", ended, err, want)
	}
	k.mustBeEnded(v)
}
