package table

import (
	"container/heap"
	"sync"
	"time"
)

// No reader finds an expired record. This file frees its memory. Each Create removes a few expired
// records of its shard. A timer, which runs only while there are records or markers, removes the
// rest, and the markers that are no longer needed.
const (
	sweepBatch = 4
	sweepEvery = time.Minute
)

// expire removes at most limit expired records of a shard, and reports whether more are due. The
// caller holds the lock.
func (t *Table) expire(s *shard, now time.Time, limit int) (more bool) {
	for range limit {
		if len(s.queue) == 0 || now.Before(s.queue[0].due) {
			return false
		}
		e := s.queue[0]
		if e.latest.Live(now) { // it was used since it was queued
			e.due = e.latest.Expires()
			heap.Fix(&s.queue, 0)
			continue
		}
		s.remove(e)
		t.expired.add(e)
		t.journal.Note(e.id, nil)
	}
	return true
}

// sweeper removes expired records of shards that get no new ones.
type sweeper struct {
	mu     sync.Mutex
	armed  bool
	closed bool
	timer  *time.Timer
}

func (w *sweeper) arm(t *Table) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.armed || w.closed {
		return
	}
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(sweepEvery, t.sweep)
		return
	}
	w.timer.Reset(sweepEvery)
}

func (t *Table) sweep() {
	t.sweeper.mu.Lock()
	t.sweeper.armed = false
	t.sweeper.mu.Unlock()
	left := 0
	for i := range t.shards {
		s := &t.shards[i]
		for more := true; more; { // in batches, so that no request waits long for the lock
			s.mu.Lock()
			now := t.clock.now()
			if more = t.expire(s, now, 64); !more {
				s.markers.expire(now)
				left += len(s.entries) + len(s.markers.order)
			}
			s.mu.Unlock()
		}
	}
	if left > 0 {
		t.sweeper.arm(t)
	}
}

// Close stops the timer. The table remains usable, but then removes expired records only when
// others are created.
func (t *Table) Close() {
	w := &t.sweeper
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// expiryQueue is a heap of entries, ordered by due. A use of a session does not move its entry:
// expire does so when the entry is due.
type expiryQueue []*entry

func (q *expiryQueue) push(e *entry)   { heap.Push(q, e) }
func (q *expiryQueue) remove(e *entry) { heap.Remove(q, e.index) }

func (q expiryQueue) Len() int           { return len(q) }
func (q expiryQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q expiryQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *expiryQueue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

func (q *expiryQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}
