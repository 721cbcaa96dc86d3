package table

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// users is the index of sessions by their owners, and what was revoked lately.
//
// Locks are taken in this order: an owner's turn, the shards' in their order, the index's. Only who has the turn adds sessions of an owner,
// so those that it names can only become fewer.
type users struct {
	turns [64]sync.Mutex

	mu      sync.Mutex
	owned   map[driver.Hash]map[driver.ID]struct{}
	revoked map[driver.Hash]time.Time // when an owner's sessions were ended, for MaxSignInTime
	order   []revocation              // of revoked, the oldest first
	all     time.Time                 // when everybody's were
}

type revocation struct {
	owner driver.Hash
	at    time.Time
}

func (u *users) turn(owner driver.Hash) *sync.Mutex { return &u.turns[int(owner[0])%len(u.turns)] }

func (u *users) add(owner driver.Hash, id driver.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.owned == nil {
		u.owned = map[driver.Hash]map[driver.ID]struct{}{}
	}
	ids := u.owned[owner]
	if ids == nil {
		ids = map[driver.ID]struct{}{}
		u.owned[owner] = ids
	}
	ids[id] = struct{}{}
}

func (u *users) remove(owner driver.Hash, id driver.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ids := u.owned[owner]
	if delete(ids, id); len(ids) == 0 {
		delete(u.owned, owner)
	}
}

func (u *users) of(owner driver.Hash) []driver.ID {
	u.mu.Lock()
	defer u.mu.Unlock()
	ids := make([]driver.ID, 0, len(u.owned[owner]))
	for id := range u.owned[owner] {
		ids = append(ids, id)
	}
	return ids
}

// revoke notes that an owner's sessions are being ended.
func (u *users) revoke(owner driver.Hash, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.order) > 0 && now.Sub(u.order[0].at) > driver.MaxSignInTime {
		old := u.order[0]
		u.order = u.order[1:]
		if at := u.revoked[old.owner]; at.Equal(old.at) {
			delete(u.revoked, old.owner)
		} else { // there was another one since
			u.order = append(u.order, revocation{old.owner, at})
		}
	}
	if u.revoked == nil {
		u.revoked = map[driver.Hash]time.Time{}
	}
	if _, again := u.revoked[owner]; !again { // each owner is in order once
		u.order = append(u.order, revocation{owner, now})
	}
	u.revoked[owner] = now
}

// revokedSince reports whether an authentication that began at a time may not sign in any more.
func (u *users) revokedSince(owner driver.Hash, began time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	at, ok := u.revoked[owner]
	return ok && !began.After(at) || !u.all.IsZero() && !began.After(u.all)
}

// SignIn implements driver.UserStore.
func (t *Table) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	t.sweeper.arm(t)
	began := t.Now().Add(-in.Elapsed) // before it waits for its turn: a revocation that had it came after
	res, receipt, err := t.signIn(id, began, in)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, receipt); err != nil {
		return nil, err
	}
	return res, nil
}

func (t *Table) signIn(id driver.ID, began time.Time, in *driver.SignIn) (*driver.Result, Receipt, error) {
	owner := in.Spec.Principal.Owner
	turn := t.users.turn(owner)
	turn.Lock()
	defer turn.Unlock()
	now := t.Now()
	owned := t.users.of(owner)
	involved := append([]driver.ID{id}, owned...)
	if in.From != nil {
		involved = append(involved, in.From.ID)
	}
	defer t.lock(involved)()
	if e := t.live(id); e != nil {
		if e.latest.Secret != in.Spec.Secret {
			return nil, nil, driver.ErrExists
		}
		return &driver.Result{Record: e.latest, Now: now}, t.journal.Append(id, e.latest), nil
	}
	if in.Elapsed > driver.MaxSignInTime || t.users.revokedSince(owner, began) {
		return nil, nil, driver.ErrRevoked
	}
	from := t.presented(in.From, now)
	extra, err := t.overLimit(owned, from, in)
	if err != nil {
		return nil, nil, err
	}
	res, err := driver.NewSignedIn(now, in, from.record())
	if err != nil {
		return nil, nil, err
	}
	return res, t.enter(id, res, from, extra), nil
}

// enter puts in the record of a sign-in, in place of others. The caller holds the locks of all.
func (t *Table) enter(id driver.ID, res *driver.Result, from *entry, extra []*entry) Receipt {
	versions := []Version{{id, res.Record}}
	if from != nil {
		s := t.shard(from.id)
		s.remove(from)
		s.moved.add(from.id, t.clock.now())
		versions = append(versions, Version{from.id, nil})
	}
	for _, e := range extra {
		t.shard(e.id).remove(e)
		res.Evicted = append(res.Evicted, e.id)
		versions = append(versions, Version{e.id, nil})
	}
	e := &entry{id: id, latest: res.Record, due: res.Record.Expires()}
	receipt := t.journal.AppendAll(versions)
	if receipt == nil {
		e.published = res.Record
	}
	s := t.shard(id)
	if old := s.entries[id]; old != nil { // expired, not yet removed
		t.expired.note(old)
		s.remove(old)
	}
	s.add(e)
	return receipt
}

// lock takes the locks of all shards that have one of these ids, so that what is done to them is one step for everybody.
func (t *Table) lock(ids []driver.ID) (unlock func()) {
	var needed [shards]bool
	for _, id := range ids {
		needed[id.Selector[0]] = true
	}
	for i := range t.shards {
		if needed[i] {
			t.shards[i].mu.Lock()
		}
	}
	return func() {
		for i := range t.shards {
			if needed[i] {
				t.shards[i].mu.Unlock()
			}
		}
	}
}

// live returns the entry of a live record, nil if there is none. The caller holds the lock.
func (t *Table) live(id driver.ID) *entry {
	s := t.shard(id)
	return s.live(id, t.clock.now())
}

func (e *entry) record() *driver.Record {
	if e == nil {
		return nil
	}
	return e.latest
}

// presented returns the session that a browser had, nil if it had none. The caller holds the lock.
func (t *Table) presented(p *driver.Credential, now time.Time) *entry {
	if p == nil {
		return nil
	}
	e := t.live(p.ID)
	if e == nil {
		return nil
	}
	switch e.latest.Tokens.Status(p.Verifier, now) {
	case driver.Current, driver.Grace:
		return e
	case driver.Superseded, driver.Unknown:
	}
	return nil
}

// overLimit returns the owner's sessions that must end for one more. That which goes anyway does not count. The caller holds the locks.
func (t *Table) overLimit(owned []driver.ID, from *entry, in *driver.SignIn) ([]*entry, error) {
	if in.MaxSessions == 0 {
		return nil, nil
	}
	var live []*entry
	for _, id := range owned {
		if e := t.live(id); e != nil && e != from {
			live = append(live, e)
		}
	}
	if len(live) < in.MaxSessions {
		return nil, nil
	}
	if in.RefuseExtra {
		return nil, driver.ErrTooMany
	}
	slices.SortFunc(live, func(a, b *entry) int { return newestFirst(a.id, a.latest, b.id, b.latest) })
	return live[in.MaxSessions-1:], nil
}

// newestFirst orders sessions; those of one millisecond by their ids, so that a list does not change with each look.
func newestFirst(a driver.ID, ra *driver.Record, b driver.ID, rb *driver.Record) int {
	if c := rb.Created.Compare(ra.Created); c != 0 {
		return c
	}
	return bytes.Compare(b.Selector[:], a.Selector[:])
}

// Sessions implements driver.UserStore.
func (t *Table) Sessions(ctx context.Context, owner driver.Hash) ([]driver.UserSession, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var live []driver.UserSession
	for _, id := range t.users.of(owner) {
		if r, _, err := t.Load(ctx, id); err == nil {
			live = append(live, driver.UserSession{ID: id, Record: r})
		}
	}
	slices.SortFunc(live, func(a, b driver.UserSession) int { return newestFirst(a.ID, a.Record, b.ID, b.Record) })
	return live, ctx.Err()
}

// EndUser implements driver.UserStore.
func (t *Table) EndUser(ctx context.Context, owner driver.Hash, which driver.Selection) ([]driver.ID, error) {
	ended, receipt := t.endUser(owner, which)
	if err := wait(ctx, receipt); err != nil {
		return nil, err
	}
	return ended, nil
}

func (t *Table) endUser(owner driver.Hash, which driver.Selection) (ended []driver.ID, receipt Receipt) {
	turn := t.users.turn(owner)
	turn.Lock()
	defer turn.Unlock()
	now := t.Now()
	ids := slices.DeleteFunc(t.users.of(owner), func(id driver.ID) bool {
		return which.Only != nil && !slices.Contains(which.Only, id) || slices.Contains(which.Except, id)
	})
	defer t.lock(ids)()
	var versions []Version
	for _, id := range ids {
		if e := t.live(id); e != nil {
			t.shard(id).remove(e)
			ended = append(ended, id)
			versions = append(versions, Version{id, nil})
		}
	}
	if which.Only == nil {
		t.users.revoke(owner, now)
		t.journal.Revoke(now)
	}
	return ended, t.journal.AppendAll(versions) // also of none: ends before this one may not be durable yet
}

// EndAll implements driver.UserStore.
func (t *Table) EndAll(ctx context.Context) error { return wait(ctx, t.endAll()) }

func (t *Table) endAll() Receipt {
	for i := range t.users.turns { // no sign-in is half-way, and those that come later began earlier
		t.users.turns[i].Lock()
		defer t.users.turns[i].Unlock()
	}
	now := t.Now()
	t.RestoreRevoked(now)
	t.journal.Revoke(now)
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		versions := make([]Version, 0, len(s.entries))
		for id, e := range s.entries {
			versions = append(versions, Version{id, nil})
			if !e.latest.Live(now) {
				t.expired.note(e)
			}
			s.remove(e)
		}
		if len(versions) > 0 {
			t.journal.AppendAll(versions)
		}
		s.mu.Unlock()
	}
	return t.journal.AppendAll(nil)
}

// RestoreRevoked refuses sign-ins that began before: for the last revocation that an earlier process made, of whomever it was.
func (t *Table) RestoreRevoked(at time.Time) {
	t.users.mu.Lock()
	defer t.users.mu.Unlock()
	t.users.all = at
}
