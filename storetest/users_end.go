package storetest

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// endUserCases: signing out everywhere.
var endUserCases = []testCase{
	{
		name: "user/end-all",
		why: "P9: Signing out everywhere ends all sessions of the user and no others, and reports which were " +
			"alive.",
		run: func(k *kit) {
			o, other := newOwner(), newOwner()
			k.mustEndUser(o, driver.Selection{})
			all, anonymous, theirs := k.signIns(o, 4), k.create(), k.signIn(other)
			k.end(all[0])
			k.mustEndUser(o, driver.Selection{}, all[1:]...)
			k.mustEndUser(o, driver.Selection{})
			k.mustHaveSessions(o)
			k.mustHaveSessions(other, theirs)
			k.load(anonymous)
		},
	},
	{
		name: "user/sign-in-after-end",
		why: "P2: A caller that derives the id from an old session of another program may be late. Less than " +
			"SupersededFor after the end, SignIn must not bring the session back.",
		run: func(k *kit) {
			o := newOwner()
			ended, from, other := k.signIn(o), k.signIn(o), k.signIn(o)
			k.end(ended)
			next := o.visitor()
			k.mustSignIn(next, o.login(next, from))
			k.mustEndUser(o, driver.Selection{Only: idsOf(other)}, other)
			for _, v := range []visitor{ended, from, other} {
				late := o.visitor()
				late.id = v.id
				_ = k.mustRefuseSignIn(o, late, driver.ErrExists, o.login(late))
			}
		},
	},
	{
		name: "user/end-except",
		why:  "P9: A user who changes the password stays signed in here, and nowhere else.",
		run: func(k *kit) {
			o, other := newOwner(), newOwner()
			all, theirs := k.signIns(o, 4), k.signIn(other)
			k.mustEndUser(o, driver.Selection{Except: idsOf(all[1], all[3], theirs, newVisitor())}, all[0], all[2])
			k.mustHaveSessions(o, all[1], all[3])
			k.mustHaveSessions(other, theirs)
			k.mustEndUser(o, driver.Selection{Except: []driver.ID{}}, all[1], all[3])
		},
	},
	{
		name: "user/end-only",
		why: "P9: A user ends the named sessions that are the user's own. Other users' sessions are treated as " +
			"unknown. This is no revocation: it refuses no sign-in.",
		run: func(k *kit) {
			o, other := newOwner(), newOwner()
			all, theirs, anonymous := k.signIns(o, 4), k.signIn(other), k.create()
			began := k.now()
			k.pause()
			k.mustEndUser(o, driver.Selection{Only: []driver.ID{}})
			k.mustEndUser(o, driver.Selection{Only: idsOf(theirs, anonymous, newVisitor())})
			k.mustEndUser(o, driver.Selection{Only: idsOf(all[2], theirs)}, all[2])
			k.mustEndUser(o, driver.Selection{Only: idsOf(all[2])})
			k.mustEndUser(o, driver.Selection{Only: idsOf(all[0], all[1]), Except: idsOf(all[1])}, all[0])
			k.mustHaveSessions(o, all[1], all[3])
			k.mustHaveSessions(other, theirs)
			k.load(anonymous)
			v := o.visitor()
			in := o.login(v)
			in.Elapsed = k.now().Sub(began) + k.h.Slack
			k.mustSignIn(v, in)
		},
	},
	{
		name: "user/end-in-one-step",
		why: "P9: A client that sees one session ended by a sign-out everywhere sees no other of them alive. " +
			"There is no moment at which only half have ended.",
		run: endInOneStep,
	},
	{
		name: "user/revoked",
		why: "P9: A password that was checked before the user's sessions were revoked does not sign in " +
			"afterwards. One that was checked later does. It does not matter whether there was a session to " +
			"end.",
		timed: true,
		run:   revoked,
	},
	{
		name: "user/too-long-ago",
		why: "P10: A store forgets revocations. It therefore refuses sign-ins that began before the time that " +
			"it remembers.",
		run: func(k *kit) {
			o, from := newOwner(), k.create()
			v := o.visitor()
			in := o.login(v, from)
			in.Elapsed = driver.MaxSignInTime + time.Second
			_ = k.mustRefuseSignIn(o, v, driver.ErrRevoked, in)
			in.Elapsed = driver.MaxSignInTime - time.Minute - k.h.Slack
			k.mustSignIn(v, in)
		},
	},
	{
		name: "user/end-against-sign-ins",
		why: "P9: A sign-out everywhere runs among sign-ins. A sign-in that began before it has ended or is " +
			"refused once both have returned, whichever came first. The case runs many rounds, because it is " +
			"a race.",
		run: endAgainstSignIns,
	},
	{
		name: "user/end-everybody",
		why: "P9: After an incident nobody is signed in and no visitor has a session. A sign-in that began " +
			"before is refused; later ones succeed.",
		timed: true,
		run: func(k *kit) {
			o, other := newOwner(), newOwner()
			all := append(k.signIns(o, 3), k.signIn(other), k.create(set("cart", `"tea"`)))
			k.pause()
			since := k.beganEarlier(time.Second)
			if err := k.users().EndAll(k.Context()); err != nil {
				k.Fatalf("EndAll: %v", err)
			}
			for _, v := range all {
				k.mustBeEnded(v)
			}
			k.mustHaveSessions(o)
			v := o.visitor()
			in := o.login(v)
			_ = k.mustRefuseSignInBegun(o, v, driver.ErrRevoked, in, since)
			k.wait(k.h.Slack + 2*time.Millisecond)
			k.clock = nil // EndAll ended its session
			k.create(add("n", 1))
			in.Elapsed = 0
			k.mustSignIn(v, in)
			k.mustHaveSessions(o, v)
			if err := k.users().EndAll(k.Context()); err != nil {
				k.Fatalf("EndAll: %v", err)
			}
			k.mustBeEnded(v)
		},
	},
	{
		name: "user/thousand-sessions",
		why:  "P9, P10: A user with 1,000 sessions is listed, limited and signed out everywhere like any other.",
		run: func(k *kit) {
			o := newOwner()
			all := o.visitors(1000)
			concurrently(20, func(i int) {
				for _, v := range all[i*50 : i*50+50] {
					if _, err := k.users().SignIn(k.Context(), v.id, o.login(v)); err != nil {
						k.Errorf("SignIn: %v", err)
					}
				}
			})
			if got := k.listed(o); !sameIDs(got, idsOf(all...)) {
				k.Fatalf("%d sessions are listed, want %d", len(got), len(all))
			}
			k.pause()
			v := o.visitor()
			if res := k.mustSignIn(v, o.limited(v, 901, false)); len(res.Evicted) != 100 {
				k.Errorf("the limit ended %d sessions, want 100", len(res.Evicted))
			}
			ended, err := k.users().EndUser(k.Context(), o.hash, driver.Selection{Except: idsOf(v)})
			if err != nil || len(ended) != 900 {
				k.Errorf("EndUser: %d ended, error %v, want 900", len(ended), err)
			}
			for _, v := range all {
				if k.alive(v) {
					k.Fatal("a session is still alive")
				}
			}
			k.mustHaveSessions(o, v)
		},
	},
	{
		name: "user/leaves-nothing",
		why: "P10: Sessions of users who sign in and out leave nothing behind. Otherwise a store that runs " +
			"long enough is full of them.",
		needs: func(h *Harness) bool {
			return h.Len != nil
		},
		run: func(k *kit) {
			o := newOwner()
			keep := k.signIn(o)
			for i := range 100 {
				v, next := o.visitor(), o.visitor()
				k.mustSignIn(v, o.login(v, k.create()))
				k.mustSignIn(next, o.login(next, v))
				if i%2 == 0 {
					k.end(next)
				} else {
					k.mustEndUser(o, driver.Selection{Except: idsOf(keep)}, next)
				}
				k.pause()
			}
			if got := k.h.Len(k.T, k.store); got != 1 {
				k.Errorf("the store has %d sessions, want 1", got)
			}
			k.mustHaveSessions(o, keep)
		},
	},
	{
		name: "user/reopen",
		why: "P9: After a restart a user's sessions are listed, ended sessions have ended, and signing out " +
			"everywhere ends all sessions.",
		needs: canReopen,
		run: func(k *kit) {
			o, other := newOwner(), newOwner()
			all, from, theirs := k.signIns(o, 4), k.create(set("cart", `"tea"`)), k.signIn(other)
			k.pause()
			v := o.visitor()
			k.mustSignIn(v, o.limited(v, 4, false, from))
			k.mustEndUser(o, driver.Selection{Only: idsOf(all[1])}, all[1])
			k.reopen()
			k.mustHaveSessions(o, all[2], all[3], v)
			k.mustHaveSessions(other, theirs)
			k.mustHave(v, "cart", `"tea"`)
			for _, ended := range []visitor{all[0], all[1], from} {
				if k.alive(ended) {
					k.Errorf("the ended session %v is alive", ended.id)
				}
			}
			k.mustEndUser(o, driver.Selection{}, all[2], all[3], v)
			k.reopen()
			k.mustHaveSessions(o)
			k.mustHaveSessions(other, theirs)
			if err := k.users().EndAll(k.Context()); err != nil {
				k.Fatalf("EndAll: %v", err)
			}
			k.reopen()
			k.mustBeEnded(theirs)
		},
	},
	{
		name: "user/reopen-revoked",
		why: "P9: A sign-in that began before the user's sessions were revoked is refused, also after a " +
			"restart.",
		needs: canReopen,
		timed: true,
		run: func(k *kit) {
			for _, revoke := range []func(o owner) error{
				func(o owner) error {
					_, err := k.users().EndUser(k.Context(), o.hash, driver.Selection{})
					return err
				},
				func(owner) error { return k.users().EndAll(k.Context()) },
			} {
				o := newOwner()
				k.signIn(o)
				since := k.beganEarlier(time.Second)
				if err := revoke(o); err != nil {
					k.Fatal(err)
				}
				k.pause()
				k.reopen()
				v := o.visitor()
				in := o.login(v)
				_ = k.mustRefuseSignInBegun(o, v, driver.ErrRevoked, in, since)
				k.wait(k.h.Slack + 2*time.Millisecond)
				in.Elapsed = 0
				k.mustSignIn(v, in)
			}
		},
	},
	{
		name: "user/second",
		why: "P9: All processes know a user's sessions, and a sign-out everywhere in one process takes effect " +
			"in all.",
		needs: shared,
		timed: true,
		run: func(k *kit) {
			other := k.other()
			o := newOwner()
			mine, theirs := k.signIn(o), other.signIn(o)
			k.mustHaveSessions(o, mine, theirs)
			other.mustHaveSessions(o, mine, theirs)
			since := k.beganEarlier(time.Second)
			other.mustEndUser(o, driver.Selection{}, mine, theirs)
			for _, v := range []visitor{mine, theirs} {
				if _, err := k.store.Apply(k.Context(), v.id, v.change(add("n", 1))); !errors.Is(err, driver.ErrNotFound) {
					k.Errorf("Apply by the other process: %v, want ErrNotFound", err)
				}
				k.eventuallyEnded(k, v)
			}
			k.mustHaveSessions(o)
			v := o.visitor()
			in := o.login(v)
			_ = k.mustRefuseSignInBegun(o, v, driver.ErrRevoked, in, since)
		},
	},
}

func endInOneStep(k *kit) {
	for range 20 {
		o := newOwner()
		all := make([]visitor, 20)
		for i := range all {
			all[i] = o.visitor()
			k.mustSignIn(all[i], o.login(all[i]))
		}
		var begun, watchers sync.WaitGroup
		var done atomic.Bool
		for range 3 {
			begun.Add(1)
			watchers.Go(func() {
				order := slices.Clone(all)
				for round := 0; ; round++ {
					endedSoFar := 0
					for i, v := range order {
						if !k.alive(v) {
							endedSoFar++
						} else if endedSoFar > 0 {
							k.Errorf("session %d of %d is alive after %d were found ended", i+1, len(order), endedSoFar)
							return
						}
					}
					if round == 0 {
						begun.Done()
					}
					if endedSoFar > 0 || done.Load() {
						return
					}
					yieldInBubble()
					order = append(order[7:], order[:7]...)
				}
			})
		}
		begun.Wait()
		if ended, err := k.users().EndUser(k.Context(), o.hash, driver.Selection{}); err != nil || len(ended) != len(all) {
			k.Errorf("EndUser: %d ended, error %v", len(ended), err)
		}
		done.Store(true)
		watchers.Wait()
		if k.Failed() {
			return
		}
	}
}

func revoked(k *kit) {
	for _, had := range []int{0, 2} {
		o, other := newOwner(), newOwner()
		all, from := k.signIns(o, had), k.create(set("cart", `"tea"`))
		k.pause()
		var began []func() time.Duration
		for _, before := range []time.Duration{time.Millisecond, time.Minute, driver.MaxSignInTime - time.Hour} {
			began = append(began, k.beganEarlier(before))
		}
		k.mustEndUser(o, driver.Selection{}, all...)
		v := o.visitor()
		in := o.login(v, from)
		for _, since := range began {
			_ = k.mustRefuseSignInBegun(o, v, driver.ErrRevoked, in, since)
			in.MaxSessions, in.RefuseExtra = 1, true
			_ = k.mustRefuseSignInBegun(o, v, driver.ErrRevoked, in, since)
			in.MaxSessions, in.RefuseExtra = 0, false
		}
		theirs := other.visitor()
		another := other.login(theirs)
		another.Elapsed = time.Minute
		k.mustSignIn(theirs, another)
		k.wait(2 * (k.h.Slack + 2*time.Millisecond))
		in.Elapsed = k.h.Slack + time.Millisecond
		k.mustSignIn(v, in)
		k.mustHave(v, "cart", `"tea"`)
		k.pause()
		since := k.beganEarlier(time.Millisecond)
		k.mustEndUser(o, driver.Selection{Except: idsOf(v)}) // this is also a revocation
		again := o.visitor()
		in = o.login(again)
		_ = k.mustRefuseSignInBegun(o, again, driver.ErrRevoked, in, since)
		k.mustHaveSessions(o, v)
	}
}

func endAgainstSignIns(k *kit) {
	for range 30 {
		o := newOwner()
		all := append(k.signIns(o, 2), o.visitors(10)...)
		var entered, early [12]atomic.Bool
		entered[0].Store(true)
		entered[1].Store(true)
		var ending, ended atomic.Bool
		concurrently(11, func(i int) {
			if i == 10 {
				ending.Store(true)
				if _, err := k.users().EndUser(k.Context(), o.hash, driver.Selection{}); err != nil {
					k.Errorf("EndUser: %v", err)
				}
				ended.Store(true)
				return
			}
			v := all[2+i]
			in := o.login(v)
			in.Elapsed = k.h.Slack
			began, first := time.Now(), !ending.Load()
			_, err := k.users().SignIn(k.Context(), v.id, in)
			// If the machine stopped just before the call, the call itself was after EndUser.
			early[2+i].Store(first && (k.h.Slack == 0 || time.Since(began) <= in.Elapsed))
			switch {
			case err == nil:
				entered[2+i].Store(true)
			case !errors.Is(err, driver.ErrRevoked):
				k.Errorf("SignIn: %v, want ErrRevoked or no error", err)
			}
		})
		listed := k.listed(o)
		for i, v := range all {
			alive := k.alive(v)
			if alive && (i < 2 || early[i].Load()) {
				k.Errorf("session %d is alive, but its sign-in began before all were ended", i)
			}
			if alive != slices.Contains(listed, v.id) || alive && !entered[i].Load() {
				k.Errorf("session %d: alive %v, listed %v, signed in %v",
					i, alive, slices.Contains(listed, v.id), entered[i].Load())
			}
		}
		k.pause()
		if k.Failed() {
			return
		}
	}
}
