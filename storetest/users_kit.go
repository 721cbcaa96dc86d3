package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// owner is a user, with the hash by which a store knows the user.
type owner struct {
	name string
	hash driver.Hash
}

func newOwner() owner { return owner{"ada", newHash()} }

// visitor returns a new browser of the user, which is not signed in yet.
func (o owner) visitor() visitor {
	v := newVisitor()
	v.id.Bucket = binary.BigEndian.Uint16(o.hash[:])
	return v
}

// login returns a sign-in for v, which replaces the session in from, if there is one. It carries
// all fields over.
func (o owner) login(v visitor, from ...visitor) *driver.SignIn {
	in := &driver.SignIn{Spec: *v.spec(longIdle, longLifetime), Change: *v.change()}
	in.Spec.Principal = &driver.Principal{User: o.name, Owner: o.hash, Methods: []string{"pwd"}, Level: 1}
	if len(from) > 0 {
		in.From = &driver.Credential{ID: from[0].id, Verifier: from[0].verifier}
		in.Carry = func(r *driver.Record) (driver.Fields, error) { return r.Fields, nil }
	}
	return in
}

// limited is login with a limit of most sessions.
func (o owner) limited(v visitor, most int, refuse bool, from ...visitor) *driver.SignIn {
	in := o.login(v, from...)
	in.MaxSessions, in.RefuseExtra = most, refuse
	return in
}

func (k *kit) users() driver.UserStore { return k.store.(driver.UserStore) }

// signIn signs in without a session, a moment after all earlier calls.
func (k *kit) signIn(o owner) visitor {
	k.Helper()
	v := o.visitor()
	k.pause()
	k.mustSignIn(v, o.login(v))
	return v
}

// signIns signs in n times, each time a moment after the previous one. It returns the sessions,
// oldest first.
func (k *kit) signIns(o owner, n int) []visitor {
	k.Helper()
	all := make([]visitor, n)
	for i := range all {
		all[i] = k.signIn(o)
	}
	return all
}

// pause waits until the store's time in milliseconds has changed.
func (k *kit) pause() {
	k.Helper()
	k.wait(2 * time.Millisecond)
}

// mustSignIn signs in and checks the result against the stored record.
func (k *kit) mustSignIn(v visitor, in *driver.SignIn) *driver.Result {
	k.Helper()
	res, err := k.users().SignIn(k.Context(), v.id, in)
	if err != nil {
		k.Fatalf("SignIn: %v", err)
	}
	k.mustMatchStored(v, res)
	return res
}

// mustRefuseSignIn checks that a sign-in is refused with this error and has no effect on the user's
// sessions and the old session.
func (k *kit) mustRefuseSignIn(o owner, v visitor, want error, in *driver.SignIn) error {
	k.Helper()
	ago := in.Elapsed
	return k.mustRefuseSignInBegun(o, v, want, in, func() time.Duration { return ago })
}

// beganEarlier returns a function that returns the time elapsed since a moment that is before
// earlier than now. So a slow machine does not make an early authentication a later one.
func (k *kit) beganEarlier(before time.Duration) func() time.Duration {
	now := time.Now()
	return func() time.Duration { return time.Since(now) + before + k.h.Slack }
}

// mustRefuseSignInBegun is mustRefuseSignIn with SignIn.Elapsed from elapsed, called just before
// the sign-in.
func (k *kit) mustRefuseSignInBegun(
	o owner, v visitor, want error, in *driver.SignIn, elapsed func() time.Duration,
) error {
	k.Helper()
	before := k.listed(o)
	var from *driver.Record
	if in.From != nil {
		from, _, _ = k.store.Load(k.Context(), in.From.ID)
	}
	in.Elapsed = elapsed()
	res, err := k.users().SignIn(k.Context(), v.id, in)
	if !errors.Is(err, want) || res != nil {
		k.Errorf("SignIn: result %v, error %v, want no result and %v", res != nil, err, want)
	}
	if after := k.listed(o); !slices.Equal(before, after) {
		k.Errorf("a refused sign-in changed the user's sessions\nfrom %v\nto   %v", before, after)
	}
	if from != nil {
		if r, _, err := k.store.Load(k.Context(), in.From.ID); err != nil || !same(r, from) {
			k.Errorf("a refused sign-in changed the old session: %v", err)
		}
	}
	if !errors.Is(want, driver.ErrExists) {
		k.mustBeEnded(v)
	}
	return err
}

// listed returns the ids in the list of the user's sessions, and checks each session.
func (k *kit) listed(o owner) []driver.ID {
	k.Helper()
	list := k.list(o, 100, nil)
	k.mustBeNewestFirst(list)
	for _, s := range list {
		if s.Record == nil || s.Record.Principal == nil || s.Record.Principal.Owner != o.hash {
			k.Fatalf("Sessions has %v, which is not the user's", s.ID)
		}
		if s.Record.Fields != nil {
			k.Errorf("Sessions has %v with %d fields, want nil", s.ID, len(s.Record.Fields))
		}
		if r, _, err := k.store.Load(k.Context(), s.ID); err != nil || !same(r.Metadata(), s.Record) {
			k.Errorf("Sessions has %s\nLoad has %v, error %v", text(s.Record), r, err)
		}
	}
	return listedIDs(list)
}

func (k *kit) mustBeNewestFirst(list []driver.UserSession) {
	k.Helper()
	newestFirst := func(a, b driver.UserSession) int { return b.Record.Created.Compare(a.Record.Created) }
	if !slices.IsSortedFunc(list, newestFirst) {
		k.Error("Sessions: the order is not newest first")
	}
}

// mustHaveSessions checks that the user has exactly these sessions, here oldest first.
func (k *kit) mustHaveSessions(o owner, want ...visitor) {
	k.Helper()
	ids := idsOf(want...)
	slices.Reverse(ids)
	if got := k.listed(o); !slices.Equal(got, ids) {
		k.Errorf("the user's sessions are %v, want %v", got, ids)
	}
}

// mustEndUser ends sessions of a user and checks which ones ended.
func (k *kit) mustEndUser(o owner, sel driver.Selection, want ...visitor) {
	k.Helper()
	got, err := k.users().EndUser(k.Context(), o.hash, sel)
	if err != nil {
		k.Fatalf("EndUser: %v", err)
	}
	if !sameIDs(got, idsOf(want...)) {
		k.Errorf("EndUser ended %v, want %v", got, idsOf(want...))
	}
	for _, v := range want {
		k.mustBeEnded(v)
	}
}

// mustBeMoved checks that the replaced session refuses everything with the error want.
func (k *kit) mustBeMoved(v visitor, want error) {
	k.Helper()
	if r, _, err := k.store.Load(k.Context(), v.id); !errors.Is(err, want) || r != nil {
		k.Errorf("Load: record %v, error %v, want no record and %v", r != nil, err, want)
	}
	if _, err := k.store.Apply(k.Context(), v.id, v.change(set("late", `1`))); !errors.Is(err, want) {
		k.Errorf("Apply: %v, want %v", err, want)
	}
	if _, err := k.store.Apply(k.Context(), v.id, v.renewal(newHash())); !errors.Is(err, want) {
		k.Errorf("Apply with a renewal: %v, want %v", err, want)
	}
	if err := k.store.Touch(k.Context(), v.id, v.verifier); !errors.Is(err, want) {
		k.Errorf("Touch: %v, want %v", err, want)
	}
}

// loadFresh loads without any copy.
func (k *kit) loadFresh(ctx context.Context, id driver.ID) (*driver.Record, error) {
	load := k.store.Load
	if s, ok := k.store.(driver.FreshLoader); ok {
		load = s.LoadFresh
	}
	r, _, err := load(ctx, id)
	return r, err
}

func (k *kit) alive(v visitor) bool {
	_, err := k.loadFresh(k.Context(), v.id)
	return err == nil
}

// aliveAtOnce returns how many of the sessions were certainly alive at one moment. It checks each
// session twice: those that both checks find were alive between the two rounds.
func (k *kit) aliveAtOnce(all []visitor) int {
	var seen []visitor
	for _, v := range all {
		if k.alive(v) {
			seen = append(seen, v)
		}
	}
	n := 0
	for _, v := range seen {
		if k.alive(v) {
			n++
		}
	}
	return n
}

func idsOf(visitors ...visitor) []driver.ID {
	ids := make([]driver.ID, len(visitors))
	for i, v := range visitors {
		ids[i] = v.id
	}
	return ids
}

// sameIDs reports whether two lists have the same ids, in any order.
func sameIDs(a, b []driver.ID) bool {
	sorted := func(ids []driver.ID) []string {
		names := make([]string, len(ids))
		for i, id := range ids {
			names[i] = id.String()
		}
		slices.Sort(names)
		return names
	}
	return slices.Equal(sorted(a), sorted(b))
}
