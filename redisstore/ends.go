package redisstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// ends are the sessions that this process ended. Servers replicate after they answer, so a failover can undo an end that was
// acknowledged. Therefore each is refused here at once, and repeated without asking whether that is needed: some times after it was
// made, and all of them whenever a connection was lost or a primary has changed its replication id.
type ends struct {
	mu      sync.Mutex
	kept    map[driver.ID]ending
	order   []driver.ID // oldest first: what is over the bound goes
	delayed [len(endDelays)][]delayed
	all     bool // repeat all
	going   map[driver.ID]underWay
	wake    chan struct{} // all was set
	seen    nodes
}

// ending is one end.
type ending struct {
	owner driver.Hash // zero: nobody's, or not known
	until time.Time   // forgotten then
	moved time.Time   // until then the session is said to have moved: it was replaced at sign-in
	next  time.Time   // when it is repeated next; zero: only with all
}

// delayed is an end that is due for one more repetition. All of one queue wait equally long, so each is in order. It counts only if the end is not
// due at another time by now: else each that fails would be one more to repeat.
type delayed struct {
	id driver.ID
	at time.Time
}

var endDelays = [...]time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}

const (
	endsKept  = 100_000
	endsFor   = 24 * time.Hour
	endsBatch = 512 // repeated in one go
)

func newEnds() *ends {
	return &ends{kept: map[driver.ID]ending{}, going: map[driver.ID]underWay{}, wake: make(chan struct{}, 1)}
}

// add notes that a session ended.
func (e *ends) add(id driver.ID, owner driver.Hash) { e.note(id, owner, 0) }

// move notes that a session was replaced by another one.
func (e *ends) move(id driver.ID, owner driver.Hash) { e.note(id, owner, driver.SupersededFor) }

func (e *ends) note(id driver.ID, owner driver.Hash, moved time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.noteLocked(id, owner, moved)
}

// noteLocked is note by who holds the lock.
func (e *ends) noteLocked(id driver.ID, owner driver.Hash, moved time.Duration) {
	now := time.Now()
	was, again := e.kept[id]
	if !again {
		if len(e.order) >= endsKept {
			delete(e.kept, e.order[0])
			e.order = e.order[1:]
		}
		e.order = append(e.order, id)
	}
	until := now.Add(moved)
	if was.moved.After(until) { // to end what has moved takes nothing back
		until = was.moved
	}
	e.kept[id] = ending{owner: owner, until: now.Add(endsFor), moved: until}
	e.schedule(id, 0, now.Add(endDelays[0]))
}

// schedule has an end repeated at a time, and not at the one before.
func (e *ends) schedule(id driver.ID, queue int, at time.Time) {
	end, ok := e.kept[id]
	if !ok {
		return
	}
	end.next = at
	e.kept[id] = end
	e.delayed[queue] = append(e.delayed[queue], delayed{id, at})
}

// refusal returns driver.ErrNotFound for a session that ended here, driver.ErrMoved for one that was replaced a moment ago, nil for others.
func (e *ends) refusal(id driver.ID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.kept) == 0 {
		return nil
	}
	end, ok := e.kept[id]
	switch {
	case !ok:
		return nil
	case time.Now().Before(end.moved):
		return driver.ErrMoved
	}
	return driver.ErrNotFound
}

// underWay is an end that is being made for the first time.
type underWay struct {
	callers int
	keep    bool // it was known before, or one of them has ended something, or may have
}

// making notes an end that is being made until done is called. It is not repeated meanwhile: a repetition would end the session, and who
// makes the end would be told that there was none. If there was none for sure, nothing is kept: anybody can make up what a sign-out names.
func (e *ends) making(id driver.ID, owner driver.Hash) (done func(none bool)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, known := e.kept[id]
	e.noteLocked(id, owner, 0)
	now := e.going[id]
	e.going[id] = underWay{now.callers + 1, now.keep || now.callers == 0 && known}
	return func(none bool) {
		e.mu.Lock()
		defer e.mu.Unlock()
		now := e.going[id]
		if now.callers--; !none {
			now.keep = true
		}
		if e.going[id] = now; now.callers > 0 {
			return
		}
		delete(e.going, id)
		if now.keep {
			return
		}
		delete(e.kept, id)
		for i := len(e.order) - 1; i >= 0; i-- { // it is among the last
			if e.order[i] == id {
				e.order = slices.Delete(e.order, i, i+1)
				break
			}
		}
	}
}

// owner returns whose session ended here.
func (e *ends) owner(id driver.ID) driver.Hash {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.kept[id].owner
}

// among returns what tells which of these sessions had ended here by now.
func (e *ends) among(members []member) func(driver.ID) bool {
	known := map[driver.ID]bool{}
	for _, m := range members {
		if e.has(m.id) {
			known[m.id] = true
		}
	}
	return func(id driver.ID) bool { return known[id] }
}

// has reports that a session ended here.
func (e *ends) has(id driver.ID) bool { return e.refusal(id) != nil }

// reassert has all ends repeated soon. It does not block.
func (e *ends) reassert() {
	e.mu.Lock()
	e.all = true
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// due returns the ends to repeat now, and whether these are all, and forgets those of sessions that have expired long since.
func (e *ends) due(now time.Time) (ids []driver.ID, all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.order) > 0 && !now.Before(e.kept[e.order[0]].until) {
		delete(e.kept, e.order[0])
		e.order = e.order[1:]
	}
	var later []driver.ID // what is still being made: see making
	for i := range e.delayed {
		queue := e.delayed[i]
		for len(queue) > 0 && !now.Before(queue[0].at) {
			d := queue[0]
			queue = queue[1:]
			if end, ok := e.kept[d.id]; !ok || !end.next.Equal(d.at) {
				continue
			}
			if e.going[d.id].callers > 0 {
				later = append(later, d.id)
				continue
			}
			ids = append(ids, d.id)
			if next := i + 1; next < len(e.delayed) {
				e.schedule(d.id, next, now.Add(endDelays[next]-endDelays[i]))
			}
		}
		e.delayed[i] = queue
	}
	for _, id := range later {
		e.schedule(id, 0, now.Add(endDelays[0]))
	}
	if e.all {
		e.all = false
		return slices.DeleteFunc(slices.Clone(e.order), func(id driver.ID) bool { return e.going[id].callers > 0 }), true
	}
	return ids, false
}

// retry has ends repeated again that could not be sent.
func (e *ends) retry(ids []driver.ID, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		e.schedule(id, 0, now.Add(endDelays[0]))
	}
}

// repeatEnds repeats ends until ctx is done.
func (s *Store) repeatEnds(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.ends.wake:
		}
		ids, all := s.ends.due(time.Now())
		s.repeatRevocations(ctx, all)
		for len(ids) > 0 && ctx.Err() == nil {
			n := min(len(ids), endsBatch)
			if failed := s.endAgain(ctx, ids[:n]); len(failed) > 0 {
				s.ends.retry(failed, time.Now())
			}
			ids = ids[n:]
		}
	}
}

func (s *Store) endAgain(ctx context.Context, ids []driver.ID) (failed []driver.ID) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	var commands []rueidis.Completed
	var of []driver.ID // whose end each is
	for _, id := range ids {
		owner := s.ends.owner(id)
		if errors.Is(s.ends.refusal(id), driver.ErrMoved) {
			keys, args := s.oldKeys(id, owner)
			if _, err := s.execKeys(ctx, moveScript, keys, append([]string{"again", "", ""}, args...)); err != nil {
				failed = append(failed, id)
			}
			continue
		}
		if owner != (driver.Hash{}) { // first, or a visitor of the index would take it for one that expired
			of = append(of, id)
			commands = append(commands, s.tracked.B().Zrem().Key(s.keys.index(owner)).Member(id.Selector.String()).Build())
		}
		of = append(of, id)
		commands = append(commands, s.tracked.B().Del().Key(s.keys.session(id)).Build())
	}
	for i, res := range s.tracked.DoMulti(ctx, commands...) {
		if res.Error() != nil && (len(failed) == 0 || failed[len(failed)-1] != of[i]) {
			failed = append(failed, of[i])
		}
	}
	return failed
}

// nodes is what the ends know of the servers, to see when one takes another's place.
type nodes struct {
	replicationID map[string]string // of each primary, by address
	replica       map[string]bool   // addresses that were replicas when they last answered
}

// wasReplica reports that the node at an address was a replica when it last answered.
func (e *ends) wasReplica(addr string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen.replica[addr]
}

// observe reports whether every primary answered, and whether one is new, is none any more, or has a new replication id.
func (e *ends) observe(answers []vitals) (healthy, changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	primaries := 0
	healthy = true
	next := nodes{map[string]string{}, map[string]bool{}}
	for i := range answers {
		switch v := &answers[i]; {
		case v.err != nil && e.seen.replica[v.addr]:
			next.replica[v.addr] = true
		case v.err != nil:
			healthy = false
			if id, ok := e.seen.replicationID[v.addr]; ok {
				next.replicationID[v.addr] = id
			}
		case !v.primary:
			next.replica[v.addr] = true
		default:
			primaries++
			next.replicationID[v.addr] = v.replicationID
		}
	}
	changed = e.seen.replicationID != nil && !maps.Equal(e.seen.replicationID, next.replicationID)
	e.seen = next
	return healthy && primaries > 0, changed
}
