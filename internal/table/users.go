package table

import (
	"context"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Locks are taken in this order: an owner's, the shards' in their order, an index's. Only the
// holder of an owner's lock adds sessions of the owner. So a list of them that was read under the
// lock can only lose sessions while the lock is held.
const ownerLocks = 64 // an owner's lock is the one for the first byte of its hash

// lockOwner takes the owner's lock.
func (t *Table) lockOwner(owner driver.Hash) (unlock func()) {
	lock := &t.ownerLocks[int(owner[0])%ownerLocks]
	lock.Lock()
	return lock.Unlock
}

// lockShards takes the locks of all shards that hold one of these ids. What the caller does to the
// records is then one step for all readers.
func (t *Table) lockShards(ids []driver.ID) (unlock func()) {
	var locked [shards]bool
	for _, id := range ids {
		locked[id.Selector[0]] = true
	}
	each := func(f func(*sync.Mutex)) {
		for i := range t.shards {
			if locked[i] {
				f(&t.shards[i].mu)
			}
		}
	}
	each((*sync.Mutex).Lock)
	return func() { each((*sync.Mutex).Unlock) }
}

// Sessions implements driver.UserStore.
func (t *Table) Sessions(
	ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
) ([]driver.UserSession, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var sessions []driver.UserSession
	for _, id := range t.owners.sessions(owner) {
		if r, _, err := t.Load(ctx, id); err == nil {
			sessions = append(sessions, driver.UserSession{ID: id, Record: r})
		}
	}
	return driver.ListSessions(t.Now(), sessions, after, limit), ctx.Err()
}

// EndUser implements driver.UserStore.
func (t *Table) EndUser(ctx context.Context, owner driver.Hash, sel driver.Selection) ([]driver.ID, error) {
	ended, receipt := t.endUser(owner, sel)
	if err := wait(ctx, receipt); err != nil {
		return nil, err
	}
	return ended, nil
}

func (t *Table) endUser(owner driver.Hash, sel driver.Selection) (ended []driver.ID, receipt Receipt) {
	defer t.lockOwner(owner)()
	owned := t.owners.sessions(owner)
	defer t.lockShards(owned)()
	now := t.Now()
	var versions []Version
	for _, session := range driver.LiveSessions(now, t.records(owned)) {
		if sel.Matches(session.ID) {
			s := t.shard(session.ID)
			s.end(s.entries[session.ID], driver.Attempt{}, now)
			ended = append(ended, session.ID)
			versions = append(versions, Version{session.ID, nil})
		}
	}
	if sel.Revokes() {
		t.revocations.add(owner, now)
		t.journal.Revoke(now)
	}
	// Append even if nothing ended: earlier ends may not be durable yet, and the caller waits for
	// them.
	return ended, t.journal.AppendAll(versions)
}

// EndAll implements driver.UserStore.
func (t *Table) EndAll(ctx context.Context) error { return wait(ctx, t.endAll()) }

func (t *Table) endAll() Receipt {
	// With all owners' locks, no sign-in is half done. A later one was called earlier, and is
	// refused.
	for i := range t.ownerLocks {
		t.ownerLocks[i].Lock()
		defer t.ownerLocks[i].Unlock()
	}
	now := t.Now()
	t.revocations.addGlobal(now)
	t.journal.Revoke(now)
	for i := range t.shards {
		t.endShard(&t.shards[i], now)
	}
	return t.journal.AppendAll(nil)
}

func (t *Table) endShard(s *shard, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := make([]Version, 0, len(s.entries)-s.data)
	for id, e := range s.entries {
		if id.UserData {
			continue
		}
		versions = append(versions, Version{id, nil})
		if !e.latest.Live(now) {
			t.expired.add(e)
		}
		s.remove(e)
	}
	if len(versions) > 0 {
		t.journal.AppendAll(versions)
	}
}

// RestoreRevoked refuses sign-ins that began before a time: the last revocation that an earlier
// process stored, of any owner or of all.
func (t *Table) RestoreRevoked(at time.Time) { t.revocations.addGlobal(at) }
