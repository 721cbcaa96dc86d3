package table

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// users is the index of sessions by their owners, and what was revoked lately.
//
// Locks are taken in this order: an owner's turn, a shard's, the index's. Only who has the turn adds sessions of an owner, so a count made
// under it can only shrink.
type users struct {
	turns [64]sync.Mutex

	mu      sync.Mutex
	owned   map[driver.Hash]map[driver.ID]struct{}
	revoked map[driver.Hash]time.Time // when an owner's sessions were ended, for MaxAgo
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
	for len(u.order) > 0 && now.Sub(u.order[0].at) > driver.MaxAgo {
		if old := u.order[0]; u.revoked[old.owner].Equal(old.at) {
			delete(u.revoked, old.owner)
		}
		u.order = u.order[1:]
	}
	if u.revoked == nil {
		u.revoked = map[driver.Hash]time.Time{}
	}
	u.revoked[owner] = now
	u.order = append(u.order, revocation{owner, now})
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
	owner := in.Origin.Principal.Owner
	turn := t.users.turn(owner)
	turn.Lock()
	res, receipt, err := t.signIn(id, owner, in)
	turn.Unlock()
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, receipt); err != nil {
		return nil, err
	}
	return res, nil
}

func (t *Table) signIn(id driver.ID, owner driver.Hash, in *driver.SignIn) (*driver.Result, Receipt, error) {
	if e, now := t.peek(id); e != nil {
		if e.Secret != in.Origin.Secret {
			return nil, nil, driver.ErrExists
		}
		return &driver.Result{Record: e, Now: now}, t.journal.Append(id, e), nil
	}
	now := t.Now()
	if in.Ago > driver.MaxAgo || t.users.revokedSince(owner, now.Add(-in.Ago)) {
		return nil, nil, driver.ErrRevoked
	}
	extra, err := t.overLimit(owner, in)
	if err != nil {
		return nil, nil, err
	}
	from, res, err := t.replace(now, in)
	if err != nil {
		return nil, nil, err
	}
	versions := []Version{{id, res.Record}}
	if from != nil {
		versions = append(versions, Version{in.From.ID, nil})
	}
	for _, old := range extra {
		if t.removeLive(old) {
			res.Evicted = append(res.Evicted, old)
			versions = append(versions, Version{old, nil})
		}
	}
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &entry{id: id, latest: res.Record, due: res.Record.Expires()}
	receipt := t.journal.AppendAll(versions)
	if receipt == nil {
		e.published = res.Record
	}
	if old := s.entries[id]; old != nil { // expired, not yet removed
		s.remove(old)
	}
	s.add(e)
	return res, receipt, nil
}

// peek returns the latest version of a live record, nil if there is none.
func (t *Table) peek(id driver.ID) (*driver.Record, time.Time) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	if e := s.live(id, now); e != nil {
		return e.latest, now
	}
	return nil, now
}

// overLimit returns the owner's sessions that must end for one more, the oldest first. The one that the browser had does not count.
func (t *Table) overLimit(owner driver.Hash, in *driver.SignIn) ([]driver.ID, error) {
	if in.Max == 0 {
		return nil, nil
	}
	live := t.owned(owner)
	if in.From != nil {
		live = slices.DeleteFunc(live, func(o driver.Owned) bool {
			return o.ID == in.From.ID && accepts(o.Record, in.From.Verifier, t.Now())
		})
	}
	if len(live) < in.Max {
		return nil, nil
	}
	if in.Refuse {
		return nil, driver.ErrTooMany
	}
	extra := make([]driver.ID, 0, len(live)-in.Max+1)
	for _, o := range live[in.Max-1:] {
		extra = append(extra, o.ID)
	}
	return extra, nil
}

func accepts(r *driver.Record, verifier driver.Hash, now time.Time) bool {
	standing := r.Tokens.Standing(verifier, now)
	return standing == driver.Current || standing == driver.Grace
}

// replace takes the session that the browser had, if it has one, out of the table, leaves word that it moved, and returns it with the
// record that takes its place. It is made of the very last version.
func (t *Table) replace(now time.Time, in *driver.SignIn) (from *driver.Record, res *driver.Result, err error) {
	for {
		if in.From != nil {
			if from, _ = t.peek(in.From.ID); from != nil && !accepts(from, in.From.Verifier, now) {
				from = nil
			}
		}
		if res, err = driver.NewSignedIn(now, in, from); err != nil {
			return nil, nil, err
		}
		if from == nil || t.leave(in.From.ID, from) {
			return from, res, nil
		}
	}
}

// leave removes a record that moves, if it is still at this version.
func (t *Table) leave(id driver.ID, version *driver.Record) bool {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil || e.latest != version {
		return false
	}
	s.remove(e)
	s.moved.add(id, s.clock.now())
	return true
}

func (t *Table) removeLive(id driver.ID) bool {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.live(id, s.clock.now())
	if e == nil {
		return false
	}
	s.remove(e)
	return true
}

// owned returns the owner's live sessions, the newest first, those included that are not durable yet.
func (t *Table) owned(owner driver.Hash) []driver.Owned {
	var live []driver.Owned
	for _, id := range t.users.of(owner) {
		if r, _ := t.peek(id); r != nil {
			live = append(live, driver.Owned{ID: id, Record: r})
		}
	}
	slices.SortFunc(live, func(a, b driver.Owned) int { return b.Record.Created.Compare(a.Record.Created) })
	return live
}

// Sessions implements driver.UserStore.
func (t *Table) Sessions(ctx context.Context, owner driver.Hash) ([]driver.Owned, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var live []driver.Owned
	for _, o := range t.owned(owner) {
		if r, _, err := t.Load(ctx, o.ID); err == nil {
			live = append(live, driver.Owned{ID: o.ID, Record: r})
		}
	}
	return live, nil
}

// EndUser implements driver.UserStore.
func (t *Table) EndUser(ctx context.Context, owner driver.Hash, which driver.Which) ([]driver.ID, error) {
	turn := t.users.turn(owner)
	turn.Lock()
	var ended []driver.ID
	var versions []Version
	for _, id := range t.users.of(owner) {
		if which.Only != nil && !slices.Contains(which.Only, id) || slices.Contains(which.Except, id) {
			continue
		}
		if t.removeLive(id) {
			ended = append(ended, id)
			versions = append(versions, Version{id, nil})
		}
	}
	if which.Only == nil {
		t.users.revoke(owner, t.Now())
	}
	receipt := t.journal.AppendAll(versions)
	turn.Unlock()
	return ended, wait(ctx, receipt)
}

// EndAll implements driver.UserStore.
func (t *Table) EndAll(ctx context.Context) error {
	for i := range t.users.turns { // no sign-in is half-way, and those that come later began earlier
		t.users.turns[i].Lock()
		defer t.users.turns[i].Unlock()
	}
	t.users.mu.Lock()
	t.users.all = t.Now()
	t.users.mu.Unlock()
	var last Receipt
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		versions := make([]Version, 0, len(s.entries))
		for id, e := range s.entries {
			versions = append(versions, Version{id, nil})
			s.remove(e)
		}
		if len(versions) > 0 {
			last = t.journal.AppendAll(versions)
		}
		s.mu.Unlock()
	}
	return wait(ctx, last)
}
