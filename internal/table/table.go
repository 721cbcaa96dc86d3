package table

import (
	"context"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Table keeps records by id. Its methods are those of driver.Store, with the same contract, and safe for concurrent use.
type Table struct {
	journal Journal
	shards  [shards]shard
	clock   clock
	sweeper sweeper
	users   users
	expired expired
}

const shards = 256 // one for each first byte of a selector

// shard holds the records whose selectors begin with the same byte. Each operation takes one lock, for a microsecond.
type shard struct {
	mu      sync.Mutex
	entries map[driver.ID]*entry
	queue   expiryQueue
	most    int // entries since the map was made
	moved   moved
	users   *users
}

// entry is a record that has not ended.
type entry struct {
	id        driver.ID
	published *driver.Record // what readers see; nil until the creation is durable
	latest    *driver.Record // what the next change builds on
	due       time.Time      // when the queue looks at it again: not after it expires
	index     int            // in the queue
}

// New returns an empty table. journal may be nil: the records then live as long as the process. Its time does not begin
// before notBefore, the last that an earlier process saw.
func New(journal Journal, notBefore time.Time) *Table {
	t := &Table{journal: journal, clock: clock{shown: notBefore, mono: time.Since(started)}}
	if journal == nil {
		t.journal = noJournal{}
	}
	for i := range t.shards {
		t.shards[i].entries = map[driver.ID]*entry{}
		t.shards[i].users = &t.users
	}
	return t
}

func (t *Table) shard(id driver.ID) *shard { return &t.shards[id.Selector[0]] }

// live returns the entry that has a version for the caller, nil if there is none.
func (s *shard) live(id driver.ID, now time.Time) *entry {
	e := s.entries[id]
	if e == nil || !e.latest.Live(now) {
		return nil
	}
	return e
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
	e := s.live(id, now)
	if e == nil || e.published == nil {
		return nil, now, s.missing(id, now)
	}
	return e.published, now, nil
}

// Create implements driver.Store.
func (t *Table) Create(ctx context.Context, id driver.ID, o *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	t.sweeper.arm(t)
	s := t.shard(id)
	s.mu.Lock()
	now := t.clock.now()
	t.expire(s, now, sweepBatch)
	res, receipt, err := t.create(s, id, now, o, c)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, receipt); err != nil {
		return nil, err
	}
	return res, nil
}

func (t *Table) create(s *shard, id driver.ID, now time.Time, o *driver.RecordSpec, c *driver.Change) (*driver.Result, Receipt, error) {
	if e := s.live(id, now); e != nil {
		if e.latest.Secret != o.Secret {
			return nil, nil, driver.ErrExists
		}
		return &driver.Result{Record: e.latest, Now: now}, t.store(e, e.latest), nil // durable, too, before it is told again
	}
	res, err := driver.NewRecord(now, o, c)
	if err != nil {
		return nil, nil, err
	}
	if old := s.entries[id]; old != nil { // expired, not yet removed
		t.expired.note(old)
		s.remove(old)
	}
	e := &entry{id: id, due: res.Record.Expires()}
	receipt := t.store(e, res.Record)
	s.add(e)
	return res, receipt, nil
}

// Apply implements driver.Store.
func (t *Table) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	s := t.shard(id)
	s.mu.Lock()
	now := t.clock.now()
	e := s.live(id, now)
	if e == nil {
		defer s.mu.Unlock()
		return nil, s.missing(id, now)
	}
	res, err := e.latest.Apply(now, c)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	receipt := t.store(e, res.Record)
	s.mu.Unlock()
	if err := wait(ctx, receipt); err != nil {
		return nil, err
	}
	return res, nil
}

// Touch implements driver.Store. It does not wait for the journal, and nor do readers.
func (t *Table) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	if err := t.ready(ctx); err != nil {
		return err
	}
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := t.clock.now()
	e := s.live(id, now)
	if e == nil {
		return s.missing(id, now)
	}
	next, err := e.latest.Touch(now, verifier)
	if err != nil || next == e.latest {
		return err
	}
	if e.published == e.latest { // nothing is on its way to the journal that readers must not see yet
		e.published = next
	}
	e.latest = next
	t.journal.Note(id, next)
	return nil
}

// End implements driver.Store.
func (t *Table) End(ctx context.Context, id driver.ID) error {
	_, err := t.EndAndReport(ctx, id, driver.Hash{})
	return err
}

// EndAndReport implements driver.EndReporter.
func (t *Table) EndAndReport(ctx context.Context, id driver.ID, _ driver.Hash) (ended bool, err error) {
	s := t.shard(id)
	s.mu.Lock()
	e := s.entries[id]
	if e != nil {
		if ended = e.latest.Live(t.clock.now()); !ended {
			t.expired.note(e)
		}
		s.remove(e)
	}
	// Also where there is none: an end before this one may not be durable yet, and this one must not say so earlier.
	receipt := t.journal.Append(id, nil)
	s.mu.Unlock()
	return ended, wait(ctx, receipt)
}

// store makes r the entry's latest version and hands it to the journal. The caller holds the shard's lock.
func (t *Table) store(e *entry, r *driver.Record) Receipt {
	e.latest = r
	receipt := t.journal.Append(e.id, r)
	if receipt == nil {
		e.published = r
	}
	return receipt
}

// ready reports why a change need not be tried: a journal that takes nothing more must not fill the table with versions that
// nobody will ever see.
func (t *Table) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.journal.Err()
}

// Publish shows readers a version that has become durable. One that is older than what they see already, or of a session
// that has ended meanwhile, is not shown.
func (t *Table) Publish(id driver.ID, r *driver.Record) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil || e.latest.Secret != r.Secret {
		return
	}
	if e.published == nil || e.published.Revision < r.Revision {
		e.published = r
	}
}

// Restore puts in a record that an earlier process stored, also one that has expired and is to be told of. It is for the time before the
// table is used.
func (t *Table) Restore(id driver.ID, r *driver.Record) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &entry{id: id, published: r, latest: r, due: r.Expires()}
	s.add(e)
	t.sweeper.arm(t)
}

// Now returns the table's time, which runs on when the system's clock is set back.
func (t *Table) Now() time.Time { return t.clock.now() }

// Len returns how many records there are, those included that have expired and were not removed yet.
func (t *Table) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.entries)
		s.mu.Unlock()
	}
	return n
}

func (s *shard) add(e *entry) {
	s.entries[e.id] = e
	s.queue.push(e)
	s.most = max(s.most, len(s.entries))
	if p := e.latest.Principal; p != nil {
		s.users.add(p.Owner, e.id)
	}
}

func (s *shard) remove(e *entry) {
	delete(s.entries, e.id)
	s.queue.remove(e)
	if p := e.latest.Principal; p != nil {
		s.users.remove(p.Owner, e.id)
	}
	if s.most >= shrinkAbove && len(s.entries) < s.most/8 {
		s.shrink()
	}
}

// shrinkAbove is the number of entries from which on it is worth giving back what held them.
const shrinkAbove = 256

// shrink moves what is left into a new map (a clone would be as large) and a new queue: neither gets smaller by itself.
func (s *shard) shrink() {
	entries := make(map[driver.ID]*entry, len(s.entries))
	for id, e := range s.entries {
		entries[id] = e
	}
	s.entries, s.queue, s.most = entries, append(expiryQueue(nil), s.queue...), len(entries)
}
