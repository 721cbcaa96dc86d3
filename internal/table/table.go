package table

import (
	"context"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Table keeps records by id. It implements driver.Joiner, driver.EndReporter,
// driver.ExpiryReporter, driver.Watcher and driver.Clock, and is safe for concurrent use.
type Table struct {
	journal     Journal
	shards      [shards]shard
	clock       clock
	sweeper     sweeper
	owners      owners
	ownerLocks  [ownerLocks]sync.Mutex
	revocations revocations
	expired     expired
	watchers    driver.Watchers
}

const shards = 256 // one for each first byte of a selector

// shard holds the records whose selectors begin with the same byte. Most operations take one
// shard's lock, for about a microsecond.
type shard struct {
	mu      sync.Mutex
	entries map[driver.ID]*entry
	queue   expiryQueue
	most    int // the most entries since the map was made
	data    int // how many of entries are user data
	markers markers
	owners  *owners // the table's

	watchers *driver.Watchers // the table's
}

// entry is a record that has not ended.
type entry struct {
	id        driver.ID
	published *driver.Record // readers see this version; nil until the creation is durable
	latest    *driver.Record // the next change applies to this version
	due       time.Time      // when the queue checks the entry again: not after it expires
	index     int            // in the queue
}

// New returns an empty table. With a nil journal, the records live as long as the process. The
// table's time does not start before notBefore, the latest time that an earlier process stored.
func New(journal Journal, notBefore time.Time) *Table {
	t := &Table{journal: journal, clock: clock{shown: notBefore, mono: time.Since(started)}}
	if journal == nil {
		t.journal = noJournal{}
	}
	for i := range t.shards {
		t.shards[i].entries = map[driver.ID]*entry{}
		t.shards[i].owners, t.shards[i].watchers = &t.owners, &t.watchers
	}
	return t
}

func (t *Table) shard(id driver.ID) *shard { return &t.shards[id.Selector[0]] }

// live returns the entry of a live record. Otherwise it returns the error of driver.LiveRecord. The
// caller holds the lock.
func (t *Table) live(s *shard, id driver.ID, now time.Time) (*entry, error) {
	e := s.entries[id]
	if e != nil && e.latest.Live(now) {
		return e, nil
	}
	mark := s.markers.byID[id]
	endedAt := mark.endedAt
	if global := t.revocations.lastGlobal(); global.After(endedAt) && !id.UserData {
		endedAt = global
	}
	_, err := driver.LiveRecord(now, nil, mark.movedUntil, endedAt)
	return nil, err
}

// ended reports whether there was a session with this id until less than driver.SupersededFor ago,
// and was removed by a call. A late Create must not bring it back. The caller holds the lock.
func (s *shard) ended(id driver.ID, now time.Time) bool {
	mark, ok := s.markers.byID[id]
	return ok && now.Before(mark.until())
}

// Load implements driver.Store.
func (t *Table) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return nil, time.Time{}, err
	}
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.clock.now()
	e, err := t.live(s, id, now)
	if err != nil {
		return nil, now, err
	}
	if e.published == nil {
		return nil, now, driver.ErrNotFound
	}
	return e.published, now, nil
}

// Create implements driver.Store.
func (t *Table) Create(
	ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change,
) (*driver.Result, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	t.sweeper.arm(t)
	res, receipt, err := t.create(id, spec, c)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, receipt); err != nil {
		return nil, err
	}
	return res, nil
}

func (t *Table) create(id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, Receipt, error) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.clock.now()
	t.expire(s, now, sweepBatch)
	existing := t.record(id)
	if s.ended(id, now) {
		return nil, nil, driver.ErrExists
	}
	res, err := driver.PlanCreate(now, existing, spec, c)
	if err != nil {
		return nil, nil, err
	}
	// A repeated Create appends the record again, so that it returns only once the record is
	// durable.
	receipt := t.journal.Append(id, res.Record)
	if res.Record != existing {
		t.insert(id, res.Record, receipt)
	}
	return res, receipt, nil
}

// insert adds a new record at id, where there is none or an expired one. receipt is that of the
// append. The caller holds the shard's lock.
func (t *Table) insert(id driver.ID, r *driver.Record, receipt Receipt) {
	s := t.shard(id)
	if old := s.entries[id]; old != nil {
		t.expired.add(old)
		s.remove(old)
	}
	e := &entry{id: id, latest: r, due: r.Expires()}
	if receipt == nil {
		e.published = r
	}
	s.add(e)
}

// Apply implements driver.Store.
func (t *Table) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	s := t.shard(id)
	s.mu.Lock()
	res, receipt, err := t.apply(s, id, c)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, receipt); err != nil {
		return nil, err
	}
	return res, nil
}

func (t *Table) apply(s *shard, id driver.ID, c *driver.Change) (*driver.Result, Receipt, error) {
	now := t.clock.now()
	e, err := t.live(s, id, now)
	if err != nil {
		return nil, nil, err
	}
	res, err := e.latest.Apply(now, c)
	if err != nil {
		return nil, nil, err
	}
	e.latest = res.Record
	receipt := t.journal.Append(id, res.Record)
	if receipt == nil {
		s.publish(e, res.Record)
	}
	return res, receipt, nil
}

// Touch implements driver.Store. Neither the caller nor readers wait for the journal.
func (t *Table) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	if err := t.ready(ctx); err != nil {
		return err
	}
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.clock.now()
	e, err := t.live(s, id, now)
	if err != nil {
		return err
	}
	next, err := e.latest.Touch(now, verifier)
	if err != nil || next == e.latest {
		return err
	}
	if e.published == e.latest { // otherwise next contains a change that is not durable yet
		s.publish(e, next)
	}
	e.latest = next
	t.journal.Note(id, next)
	return nil
}

// End implements driver.Store.
func (t *Table) End(ctx context.Context, id driver.ID) error {
	_, err := t.EndAndReport(ctx, id, driver.Hash{}, driver.Attempt{})
	return err
}

// EndAndReport implements driver.EndReporter. It does not need the owner.
func (t *Table) EndAndReport(
	ctx context.Context, id driver.ID, _ driver.Hash, attempt driver.Attempt,
) (ended bool, err error) {
	ended, moved, receipt := t.end(id, attempt)
	if err := wait(ctx, receipt); err != nil {
		return ended, err
	}
	if moved {
		return false, driver.ErrMoved
	}
	return ended, nil
}

func (t *Table) end(id driver.ID, attempt driver.Attempt) (ended, moved bool, receipt Receipt) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.clock.now()
	mark := s.markers.byID[id]
	e := s.entries[id]
	switch {
	case e == nil:
		ended = attempt != driver.Attempt{} && mark.attempt == attempt && now.Before(mark.until())
		moved = now.Before(mark.movedUntil)
	case e.latest.Live(now):
		ended = true
		s.end(e, attempt, now)
	default:
		t.expired.add(e)
		s.remove(e)
	}
	// Append even if there is no record: an earlier end may not be durable yet, and the caller
	// waits for it.
	return ended, moved, t.journal.Append(id, nil)
}

// ready returns an error if a change would fail. A journal that has failed must not fill the table
// with versions that are never published.
func (t *Table) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.journal.Err()
}

// Publish shows readers a version that has become durable. It ignores a version that is older than
// the one that they see, or whose session has ended in the meantime.
func (t *Table) Publish(id driver.ID, r *driver.Record) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil || e.latest.Secret != r.Secret {
		return
	}
	if e.published == nil || e.published.Revision < r.Revision {
		s.publish(e, r)
	}
}

// Watch implements driver.Watcher.
func (t *Table) Watch(id driver.ID, wake func(missed bool)) (stop func()) {
	return t.watchers.Watch(id, wake)
}

// Restore adds a record that an earlier process stored, also one that has expired: its expiry may
// still have to be reported. Call it before the table is used.
func (t *Table) Restore(id driver.ID, r *driver.Record) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &entry{id: id, published: r, latest: r, due: r.Expires()}
	s.add(e)
	t.sweeper.arm(t)
}

// Now implements driver.Clock. The table's time continues when the system's clock is set back.
func (t *Table) Now() time.Time { return t.clock.now() }

// Len returns the number of sessions, including expired ones that were not removed yet.
func (t *Table) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.entries) - s.data
		s.mu.Unlock()
	}
	return n
}

func (s *shard) add(e *entry) {
	s.entries[e.id] = e
	s.queue.push(e)
	s.most = max(s.most, len(s.entries))
	if e.id.UserData {
		s.data++
	}
	if e.latest.Principal != nil {
		s.owners.add(e.latest.Owner(), e.id)
	}
}

// publish shows readers a version.
func (s *shard) publish(e *entry, r *driver.Record) {
	e.published = r
	s.watchers.Wake(e.id)
}

// end removes an entry whose session ends now, and leaves an ended marker.
func (s *shard) end(e *entry, attempt driver.Attempt, now time.Time) {
	s.remove(e)
	s.markers.add(e.id, marker{endedAt: now, attempt: attempt}, now)
}

func (s *shard) remove(e *entry) {
	delete(s.entries, e.id)
	s.queue.remove(e)
	if e.id.UserData {
		s.data--
	}
	if e.latest.Principal != nil {
		s.owners.remove(e.latest.Owner(), e.id)
	}
	s.watchers.Wake(e.id)
	if s.most >= shrinkAbove && len(s.entries) < s.most/8 {
		s.shrink()
	}
}

// shrinkAbove is the number of entries above which shrinking is worthwhile.
const shrinkAbove = 256

// shrink moves the remaining entries into a new map and a new queue, because neither gets smaller
// by itself. A clone of the map would be as large as the map.
func (s *shard) shrink() {
	entries := make(map[driver.ID]*entry, len(s.entries))
	for id, e := range s.entries {
		entries[id] = e
	}
	s.entries, s.queue, s.most = entries, append(expiryQueue(nil), s.queue...), len(entries)
}
