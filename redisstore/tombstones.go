package redisstore

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// tombstones are the ends that this process made. Servers replicate after they answer, so a
// failover can undo an acknowledged end. Therefore this process refuses each of these sessions
// itself, and repeats the ends without asking whether that is needed: each after repeatDelays, and
// all when a connection was lost or a primary changed.
//
// Anybody can end sessions whose names are made up. During an outage the servers cannot say that
// there are none. So an end is confirmed if the session certainly existed, and only these count
// for maxConfirmed. The others have a bound of their own, and push out only each other.
type tombstones struct {
	mu          sync.RWMutex
	kept        map[driver.ID]tombstone
	confirmed   list.List // of driver.ID, oldest first
	unconfirmed list.List // the same
	queues      [len(repeatDelays)][]repetition
	all         bool // repeat all
	inProgress  map[driver.ID]endInProgress
	wake        chan struct{} // all was set

	maxConfirmed, maxUnconfirmed int // the oldest are forgotten first
}

// tombstone is one end.
type tombstone struct {
	owner      driver.Hash // zero: anonymous, or not known
	ended      time.Time   // when this process first ended it
	forget     time.Time
	movedUntil time.Time // a sign-in replaced the session: until then it is reported as moved
	next       time.Time // the next repetition of its own
	confirmed  bool      // the session existed
	element    *list.Element
}

// repetition is an end that is due at a time. All of one queue wait equally long, so each queue is
// in order. A repetition is stale if the tombstone's next is another time.
type repetition struct {
	id driver.ID
	at time.Time
}

// repeatDelays says when an end is repeated, counted from when it was made.
var repeatDelays = [...]time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}

const (
	maxConfirmedEnds   = 100_000
	maxUnconfirmedEnds = 20_000
	keepEndsFor        = 24 * time.Hour
	repeatBatch        = 512 // ends a round trip
)

func newTombstones() *tombstones {
	return &tombstones{
		kept: map[driver.ID]tombstone{}, inProgress: map[driver.ID]endInProgress{}, wake: make(chan struct{}, 1),
		maxConfirmed: maxConfirmedEnds, maxUnconfirmed: maxUnconfirmedEnds,
	}
}

// add notes that a session ended which existed.
func (t *tombstones) add(id driver.ID, owner driver.Hash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(id, owner, 0, true)
}

// addMoved notes that a sign-in replaced a session.
func (t *tombstones) addMoved(id driver.ID, owner driver.Hash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(id, owner, driver.SupersededFor, true)
}

func (t *tombstones) addLocked(id driver.ID, owner driver.Hash, movedFor time.Duration, confirmed bool) {
	now := time.Now()
	before := t.kept[id]
	confirmed = confirmed || before.confirmed
	if before.element != nil {
		t.orderOf(before.confirmed).Remove(before.element)
	}
	order, most := t.orderOf(confirmed), t.maxUnconfirmed
	if confirmed {
		most = t.maxConfirmed
	}
	if order.Len() >= most {
		t.remove(order.Front().Value.(driver.ID))
	}
	movedUntil := now.Add(movedFor)
	if before.movedUntil.After(movedUntil) { // a moved session stays moved if it is ended, too
		movedUntil = before.movedUntil
	}
	ended := now
	if before.element != nil {
		ended = before.ended
	}
	t.kept[id] = tombstone{
		owner: owner, ended: ended, forget: now.Add(keepEndsFor), movedUntil: movedUntil,
		confirmed: confirmed, element: order.PushBack(id),
	}
	t.schedule(id, 0, now.Add(repeatDelays[0]))
}

// orderOf returns the list of the confirmed tombstones, or that of the others.
func (t *tombstones) orderOf(confirmed bool) *list.List {
	if confirmed {
		return &t.confirmed
	}
	return &t.unconfirmed
}

// confirm notes that the session of a tombstone existed.
func (t *tombstones) confirm(id driver.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.confirmLocked(id)
}

func (t *tombstones) confirmLocked(id driver.ID) {
	stone, ok := t.kept[id]
	if !ok || stone.confirmed {
		return
	}
	t.unconfirmed.Remove(stone.element)
	if t.confirmed.Len() >= t.maxConfirmed {
		t.remove(t.confirmed.Front().Value.(driver.ID))
	}
	stone.confirmed, stone.element = true, t.confirmed.PushBack(id)
	t.kept[id] = stone
}

// schedule replaces the next repetition of an end.
func (t *tombstones) schedule(id driver.ID, queue int, at time.Time) {
	stone, ok := t.kept[id]
	if !ok {
		return
	}
	stone.next = at
	t.kept[id] = stone
	t.queues[queue] = append(t.queues[queue], repetition{id, at})
}

// refusal returns driver.ErrMoved for a session that was just replaced, the error of
// driver.EndedSince for one that ended here, and nil for all others.
func (t *tombstones) refusal(id driver.ID) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.kept) == 0 {
		return nil
	}
	stone, ok := t.kept[id]
	switch {
	case !ok:
		return nil
	case time.Now().Before(stone.movedUntil):
		return driver.ErrMoved
	case stone.movedUntil.After(stone.ended): // it was replaced, and did not end
		return driver.ErrNotFound
	}
	return driver.EndedSince(time.Now(), stone.ended)
}

// has reports that a session ended here.
func (t *tombstones) has(id driver.ID) bool { return t.refusal(id) != nil }

// snapshot returns a has that does not see ends from after this call.
func (t *tombstones) snapshot(entries []indexEntry) func(driver.ID) bool {
	ended := map[driver.ID]bool{}
	for _, e := range entries {
		if t.has(e.id) {
			ended[e.id] = true
		}
	}
	return func(id driver.ID) bool { return ended[id] }
}

// ownerOf returns the owner of a session that ended here.
func (t *tombstones) ownerOf(id driver.ID) driver.Hash {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.kept[id].owner
}

// endInProgress is an end whose first attempt has not returned.
type endInProgress struct {
	callers int
	keep    bool // the tombstone was there before, or a caller ended something, or may have
}

// finding is what an end learned about the session.
type finding uint8

const (
	notKnown finding = iota // it may have existed
	existed
	absent // it certainly did not exist
)

// begin notes an end that is made until the caller calls done. Until then it is not repeated: a
// repetition could end the session first, and the caller would report that there was no session.
// If no caller found a session, done removes the tombstone: anybody can make up a session's name.
// confirmed says that the session existed, since this process has read it.
func (t *tombstones) begin(id driver.ID, owner driver.Hash, confirmed bool) (done func(finding)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.kept[id]
	t.addLocked(id, owner, 0, confirmed)
	now := t.inProgress[id]
	t.inProgress[id] = endInProgress{now.callers + 1, now.keep || now.callers == 0 && known}
	return func(found finding) {
		t.mu.Lock()
		defer t.mu.Unlock()
		now := t.inProgress[id]
		if now.callers--; found != absent {
			now.keep = true
		}
		if found == existed {
			t.confirmLocked(id)
		}
		if t.inProgress[id] = now; now.callers > 0 {
			return
		}
		delete(t.inProgress, id)
		if !now.keep {
			t.remove(id)
		}
	}
}

func (t *tombstones) remove(id driver.ID) {
	if stone, ok := t.kept[id]; ok {
		t.orderOf(stone.confirmed).Remove(stone.element)
		delete(t.kept, id)
	}
}

// reassertAll repeats all ends soon. It does not block.
func (t *tombstones) reassertAll() {
	t.mu.Lock()
	t.all = true
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// due returns the ends to repeat now, and whether these are all. It forgets ends that are older
// than keepEndsFor.
func (t *tombstones) due(now time.Time) (ids []driver.ID, all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, order := range []*list.List{&t.confirmed, &t.unconfirmed} {
		for order.Len() > 0 {
			oldest := order.Front().Value.(driver.ID)
			if now.Before(t.kept[oldest].forget) {
				break
			}
			t.remove(oldest)
		}
	}
	var later []driver.ID // in progress
	for i := range t.queues {
		queue := t.queues[i]
		for len(queue) > 0 && !now.Before(queue[0].at) {
			r := queue[0]
			queue = queue[1:]
			if stone, ok := t.kept[r.id]; !ok || !stone.next.Equal(r.at) {
				continue
			}
			if t.inProgress[r.id].callers > 0 {
				later = append(later, r.id)
				continue
			}
			ids = append(ids, r.id)
			if next := i + 1; next < len(t.queues) {
				t.schedule(r.id, next, now.Add(repeatDelays[next]-repeatDelays[i]))
			}
		}
		t.queues[i] = queue
	}
	for _, id := range later {
		t.schedule(id, 0, now.Add(repeatDelays[0]))
	}
	if t.all {
		t.all = false
		return t.notInProgress(), true
	}
	return ids, false
}

// notInProgress returns all tombstones except those whose end is in progress, the confirmed ones
// first.
func (t *tombstones) notInProgress() []driver.ID {
	ids := make([]driver.ID, 0, len(t.kept))
	for _, order := range []*list.List{&t.confirmed, &t.unconfirmed} {
		for e := order.Front(); e != nil; e = e.Next() {
			if id := e.Value.(driver.ID); t.inProgress[id].callers == 0 {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// retry schedules ends that could not be sent.
func (t *tombstones) retry(ids []driver.ID, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		t.schedule(id, 0, now.Add(repeatDelays[0]))
	}
}

// postpone schedules again what is due, and repeats nothing.
func (t *tombstones) postpone(now time.Time) {
	t.mu.Lock()
	all := t.all
	t.all = false
	t.mu.Unlock()
	ids, _ := t.due(now)
	t.retry(ids, now)
	t.mu.Lock()
	t.all = t.all || all
	t.mu.Unlock()
}

// runReasserting repeats ends and revocations until ctx is done.
func (s *Store) runReasserting(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.ends.wake:
		}
		if s.outage.check(anywhere, idempotent) != nil {
			s.ends.postpone(time.Now()) // the watcher asks for all when the servers are back
			continue
		}
		ids, all := s.ends.due(time.Now())
		s.reassertRevocations(ctx, all)
		for batch := range slices.Chunk(ids, repeatBatch) {
			if ctx.Err() != nil {
				return
			}
			if failed := s.reassertEnds(ctx, batch); len(failed) > 0 {
				s.ends.retry(failed, time.Now())
			}
		}
	}
}

// reassertEnd deletes a session that is there again, malformed or not, and leaves a marker in
// place. It returns how many there were.
const reassertEnd = `local markers = redis.pcall('HMGET', KEYS[1], '@ended', '@moved')
if markers[1] or markers[2] then return 0 end
return redis.call('DEL', KEYS[1])`

// reassertEnds repeats ends, and returns those that failed.
func (s *Store) reassertEnds(ctx context.Context, ids []driver.ID) (failed []driver.ID) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	var commands []rueidis.Completed
	var ends []driver.ID // of each command
	for _, id := range ids {
		owner := s.ends.ownerOf(id)
		if errors.Is(s.ends.refusal(id), driver.ErrMoved) {
			if _, err := s.exec(ctx, s.tracked, moveScript, s.moveKeys(id, owner), []string{"again"}); err != nil {
				failed = append(failed, id)
			}
			continue
		}
		if owner != (driver.Hash{}) { // first: a session that only the index names has expired
			ends = append(ends, id)
			commands = append(commands, s.tracked.B().Zrem().Key(s.keys.index(owner)).Member(id.Selector.String()).Build())
		}
		ends = append(ends, id)
		commands = append(commands, s.tracked.B().Eval().Script(reassertEnd).Numkeys(1).Key(s.keys.record(id)).Build())
	}
	for i, res := range s.tracked.DoMulti(ctx, commands...) {
		n, err := res.AsInt64()
		if err != nil && (len(failed) == 0 || failed[len(failed)-1] != ends[i]) {
			failed = append(failed, ends[i])
		}
		if err == nil && n > 0 { // the session was there, or its user's index named it
			s.ends.confirm(ends[i])
		}
	}
	return failed
}
