package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// owner is a user as a store knows one.
type owner struct {
	name string
	hash driver.Hash
}

func newOwner() owner { return owner{"ada", newHash()} }

// visitor is a browser of the user that is yet to sign in.
func (o owner) visitor() visitor {
	v := newVisitor()
	v.id.Bucket = binary.BigEndian.Uint16(o.hash[:])
	return v
}

// login is what v signs in with, in place of the session that from has, if any. All fields come along.
func (o owner) login(v visitor, from ...visitor) *driver.SignIn {
	in := &driver.SignIn{Spec: *v.origin(longIdle, longLifetime), Change: *v.change()}
	in.Spec.Principal = &driver.Principal{User: o.name, Owner: o.hash, Methods: []string{"pwd"}, Level: 1}
	if len(from) > 0 {
		in.From = &driver.Credential{ID: from[0].id, Verifier: from[0].verifier}
		in.Carry = func(r *driver.Record) (driver.Fields, error) { return r.Fields, nil }
	}
	return in
}

// limited is login for one of at most so many sessions.
func (o owner) limited(v visitor, most int, refuse bool, from ...visitor) *driver.SignIn {
	in := o.login(v, from...)
	in.MaxSessions, in.RefuseExtra = most, refuse
	return in
}

func (k *kit) users() driver.UserStore { return k.store.(driver.UserStore) }

// signIn signs in as one who has no session, a moment after what came before.
func (k *kit) signIn(o owner) visitor {
	k.Helper()
	v := o.visitor()
	k.pause()
	k.enters(v, o.login(v))
	return v
}

// signIns are sessions of one user, each a moment newer than the one before.
func (k *kit) signIns(o owner, n int) []visitor {
	k.Helper()
	all := make([]visitor, n)
	for i := range all {
		all[i] = k.signIn(o)
	}
	return all
}

// pause lets enough time pass for two times to differ in the store's eyes.
func (k *kit) pause() {
	k.Helper()
	k.wait(2 * time.Millisecond)
}

// enters is a sign-in that must succeed, and leave what the contract says.
func (k *kit) enters(v visitor, in *driver.SignIn) *driver.Result {
	k.Helper()
	res, err := k.users().SignIn(k.Context(), v.id, in)
	if err != nil {
		k.Fatalf("SignIn: %v", err)
	}
	k.sameAsStored(v, res)
	return res
}

// barred is a sign-in that must be refused with this error, and leave all sessions of the user, and the one before, as they are.
func (k *kit) barred(o owner, v visitor, want error, in *driver.SignIn) error {
	k.Helper()
	ago := in.Elapsed
	return k.barredSince(o, v, want, in, func() time.Duration { return ago })
}

// earlier returns how long ago it was so long before now, whenever it is asked: a slow machine makes no later sign-in of an early one.
func (k *kit) earlier(before time.Duration) func() time.Duration {
	now := time.Now()
	return func() time.Duration { return time.Since(now) + before + k.h.Slack }
}

// barredSince is barred for a sign-in whose authentication began as long ago as since says when it is sent.
func (k *kit) barredSince(o owner, v visitor, want error, in *driver.SignIn, since func() time.Duration) error {
	k.Helper()
	before := k.listed(o)
	var from *driver.Record
	if in.From != nil {
		from, _, _ = k.store.Load(k.Context(), in.From.ID)
	}
	in.Elapsed = since()
	res, err := k.users().SignIn(k.Context(), v.id, in)
	if !errors.Is(err, want) || res != nil {
		k.Errorf("SignIn: result %v, error %v, want none and %v", res != nil, err, want)
	}
	if after := k.listed(o); !slices.Equal(before, after) {
		k.Errorf("a refused sign-in made of the user's sessions %v\n%v", before, after)
	}
	if from != nil {
		if r, _, err := k.store.Load(k.Context(), in.From.ID); err != nil || !same(r, from) {
			k.Errorf("a refused sign-in touched the session before: %v", err)
		}
	}
	if !errors.Is(want, driver.ErrExists) {
		k.gone(v)
	}
	return err
}

// listed returns the user's sessions as they are listed, and checks each.
func (k *kit) listed(o owner) []driver.ID {
	k.Helper()
	list, err := k.users().Sessions(k.Context(), o.hash)
	if err != nil {
		k.Fatalf("Sessions: %v", err)
	}
	k.inOrder(list)
	ids := make([]driver.ID, len(list))
	for i, s := range list {
		ids[i] = s.ID
		if s.Record == nil || s.Record.Principal == nil || s.Record.Principal.Owner != o.hash {
			k.Fatalf("Sessions: %v is no session of the user", s.ID)
		}
		if r, _, err := k.store.Load(k.Context(), s.ID); err != nil || !same(r, s.Record) {
			k.Errorf("Sessions has %s\nLoad has %v, error %v", text(s.Record), r, err)
		}
	}
	return ids
}

func (k *kit) inOrder(list []driver.UserSession) {
	k.Helper()
	if !slices.IsSortedFunc(list, func(a, b driver.UserSession) int { return b.Record.Created.Compare(a.Record.Created) }) {
		k.Error("Sessions: not the newest first")
	}
}

// hasSessions checks the list of a user's sessions: these, the oldest first, and no others.
func (k *kit) hasSessions(o owner, want ...visitor) {
	k.Helper()
	ids := idsOf(want...)
	slices.Reverse(ids)
	if got := k.listed(o); !slices.Equal(got, ids) {
		k.Errorf("the user's sessions are %v, want %v", got, ids)
	}
}

// endUser ends sessions of a user, and checks which were.
func (k *kit) endUser(o owner, which driver.Selection, want ...visitor) {
	k.Helper()
	got, err := k.users().EndUser(k.Context(), o.hash, which)
	if err != nil {
		k.Fatalf("EndUser: %v", err)
	}
	if !sameIDs(got, idsOf(want...)) {
		k.Errorf("EndUser ended %v, want %v", got, idsOf(want...))
	}
	for _, v := range want {
		k.gone(v)
	}
}

// moved checks that the id before a sign-in takes nothing, and says why.
func (k *kit) moved(v visitor, want error) {
	k.Helper()
	if r, _, err := k.store.Load(k.Context(), v.id); !errors.Is(err, want) || r != nil {
		k.Errorf("Load: record %v, error %v, want none and %v", r != nil, err, want)
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

// current loads past any copy.
func (k *kit) current(ctx context.Context, id driver.ID) (*driver.Record, error) {
	load := k.store.Load
	if s, ok := k.store.(driver.FreshLoader); ok {
		load = s.LoadFresh
	}
	r, _, err := load(ctx, id)
	return r, err
}

func (k *kit) alive(v visitor) bool {
	_, err := k.current(k.Context(), v.id)
	return err == nil
}

// atOnce returns how many of the sessions were certainly alive at one moment: that between two looks at each, which both found it.
func (k *kit) atOnce(all []visitor) int {
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

// sameIDs reports that two lists have the same ids, in any order.
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
