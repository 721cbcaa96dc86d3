package storetest

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coatcheck-go/session/driver"
)

// listCases: the list of a user's sessions, which a store returns a page at a time.
var listCases = []testCase{
	{
		name: "user/sessions",
		why: "Users see where they are signed in, newest first: no ended session, and no session of another " +
			"user.",
		timed: true,
		run: func(k *kit) {
			o, other := newOwner(), newOwner()
			k.mustHaveSessions(o)
			short := o.visitor()
			in := o.login(short)
			in.Spec.Idle, in.Spec.Lifetime = k.h.Unit, 2*k.h.Unit
			k.mustSignIn(short, in)
			k.mustHaveSessions(o, short)
			k.waitUntil(k.load(short).Expires())
			all := k.signIns(o, 4)
			theirs := k.signIn(other)
			k.apply(all[1], add("n", 1))
			k.touch(all[2])
			k.end(all[0])
			next := all[3].with(newHash())
			k.applyChange(all[3], all[3].renewal(next.verifier))
			k.mustHaveSessions(o, all[1:]...)
			k.mustHaveSessions(other, theirs)
		},
	},
	{
		name: "user/listed-while-ending",
		why: "A list that is made while sessions end has no session that ended before, lacks none that stays, " +
			"and has none twice.",
		run: listedWhileEnding,
	},
	{
		name: "user/pages",
		why: "P9, P10: The pages of a list have each session once, in the order of the whole list, also sessions " +
			"of the same millisecond. No page is longer than asked for.",
		run: func(k *kit) {
			o, other := newOwner(), newOwner()
			first, theirs, twins := k.signIn(o), k.signIn(other), o.visitors(7)
			// If the clock stands still, they are of the same millisecond.
			concurrently(len(twins), func(i int) {
				if _, err := k.users().SignIn(k.Context(), twins[i].id, o.login(twins[i])); err != nil {
					k.Errorf("SignIn: %v", err)
				}
			})
			last := k.signIn(o)
			want := k.listed(o)
			if !sameIDs(want, idsOf(append(twins, first, last)...)) {
				k.Fatalf("the user's sessions are %v", want)
			}
			for limit := 1; limit <= len(want)+1; limit++ {
				if got := listedIDs(k.list(o, limit, nil)); !slices.Equal(got, want) {
					k.Errorf("in pages of %d: %v\nwant %v", limit, got, want)
				}
			}
			if got := listedIDs(k.list(o, math.MaxInt, nil)); !slices.Equal(got, want) {
				k.Errorf("with the largest limit: %v, want %v", got, want)
			}
			for _, limit := range []int{0, -1, math.MinInt} {
				page, err := k.users().Sessions(k.Context(), o.hash, driver.SessionCursor{}, limit)
				if err != nil || len(page) != 0 {
					k.Errorf("a page of at most %d: %d sessions, error %v, want none", limit, len(page), err)
				}
			}
			k.mustHaveSessions(other, theirs)
		},
	},
	{
		name: "user/pages-while-changing",
		why: "P9: Sessions begin and end between two pages. Each session that lives during the whole list is " +
			"in it exactly once. No page has a session that ended before. The session of the cursor may end.",
		run: pagesWhileChanging,
	},
	{
		name: "user/pages-skip-expired",
		why: "P9: Expired sessions do not count for a page: a list does not end early because as many sessions " +
			"as a page has expired at the same place.",
		timed: true,
		run: func(k *kit) {
			o := newOwner()
			oldest, brief := k.signIn(o), o.visitors(5)
			for _, v := range brief {
				in := o.login(v)
				in.Spec.Idle, in.Spec.Lifetime = k.h.Unit, k.h.Unit
				k.mustSignIn(v, in)
			}
			newest := k.signIn(o)
			expires := k.load(newest).Created.Add(k.h.Unit) // after all the brief ones
			k.waitUntil(expires)
			for limit := 1; limit <= 3; limit++ {
				if got, want := listedIDs(k.list(o, limit, nil)), idsOf(newest, oldest); !slices.Equal(got, want) {
					k.Errorf("in pages of %d: %v, want %v", limit, got, want)
				}
			}
		},
	},
}

// list returns the user's sessions, read in pages of at most limit. It calls between after each
// page except the last one.
func (k *kit) list(o owner, limit int, between func(pages int)) []driver.UserSession {
	k.Helper()
	all, err := k.tryList(o, limit, between)
	if err != nil {
		k.Fatal(err)
	}
	return all
}

// tryList is list that returns errors.
func (k *kit) tryList(o owner, limit int, between func(pages int)) (all []driver.UserSession, err error) {
	var after driver.SessionCursor
	for pages := 1; ; pages++ {
		page, err := k.users().Sessions(k.Context(), o.hash, after, limit)
		switch {
		case err != nil:
			return nil, fmt.Errorf("listing the sessions: %w", err)
		case len(page) > limit:
			return nil, fmt.Errorf("a page has %d sessions, at most %d were asked for", len(page), limit)
		case pages > 10_000:
			return nil, fmt.Errorf("the list of sessions has not ended after %d pages of %d", pages, limit)
		}
		if all = append(all, page...); len(page) < limit {
			return all, nil
		}
		after = page[len(page)-1].Cursor()
		if between != nil {
			between(pages)
		}
	}
}

func listedIDs(list []driver.UserSession) []driver.ID {
	ids := make([]driver.ID, len(list))
	for i, s := range list {
		ids[i] = s.ID
	}
	return ids
}

func pagesWhileChanging(k *kit) {
	o := newOwner()
	all := k.signIns(o, 9)
	list := k.list(o, 2, func(pages int) {
		switch pages {
		case 1: // 8 and 7 are listed
			k.end(all[7])
			k.mustEndUser(o, driver.Selection{Only: idsOf(all[6], all[8])}, all[6], all[8])
			k.signIns(o, 3)
		case 2: // also 5 and 4
			k.pause()
			v := o.visitor()
			k.mustSignIn(v, o.login(v, all[4]))
			if _, err := k.users().EndUser(k.Context(), o.hash, driver.Selection{Except: idsOf(all[3], all[1])}); err != nil {
				k.Fatalf("EndUser: %v", err)
			}
		case 3: // also 3 and 1, and none of those that were revoked
			k.signIn(o)
		}
	})
	if want := idsOf(all[8], all[7], all[5], all[4], all[3], all[1]); !slices.Equal(listedIDs(list), want) {
		k.Errorf("the list has %v, want %v", listedIDs(list), want)
	}
}

func listedWhileEnding(k *kit) {
	o := newOwner()
	all := k.signIns(o, 60)
	var ended [60]atomic.Bool
	var done atomic.Bool
	var watchers sync.WaitGroup
	for _, limit := range []int{7, 100} {
		watchers.Go(func() {
			for !done.Load() {
				over := map[driver.ID]bool{}
				for i := range all {
					if ended[i].Load() {
						over[all[i].id] = true
					}
				}
				list, err := k.tryList(o, limit, nil)
				if err != nil {
					k.Error(err)
					return
				}
				k.mustBeNewestFirst(list)
				there := map[driver.ID]bool{}
				for _, s := range list {
					if over[s.ID] || there[s.ID] {
						k.Errorf("%v is listed after its end, or twice", s.ID)
					}
					there[s.ID] = true
				}
				for _, v := range all[40:] {
					if !there[v.id] {
						k.Errorf("%v is alive and is not listed", v.id)
					}
				}
				yieldInBubble()
			}
		})
	}
	concurrently(4, func(i int) {
		for j := i * 10; j < i*10+10; j++ {
			var err error
			if j%2 == 0 {
				err = k.store.End(k.Context(), all[j].id)
			} else {
				_, err = k.users().EndUser(k.Context(), o.hash, driver.Selection{Only: idsOf(all[j])})
			}
			if err != nil {
				k.Errorf("ending a session: %v", err)
			}
			ended[j].Store(true)
		}
	})
	done.Store(true)
	watchers.Wait()
	k.mustHaveSessions(o, all[40:]...)
}
