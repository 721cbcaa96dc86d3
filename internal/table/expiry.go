package table

import (
	"container/heap"
	"sync"
	"time"
)

// Expired records are not there for any reader; what follows gives their memory back. Creating a record removes a few of
// its shard that are due, and a timer, which runs only while there are records, removes the rest.
const (
	sweepBatch = 4
	sweepEvery = time.Minute
)

// expire removes at most limit expired records of a shard and reports whether more are due. The caller holds the lock.
func (t *Table) expire(s *shard, now time.Time, limit int) (more bool) {
	for range limit {
		if len(s.queue) == 0 || now.Before(s.queue[0].due) {
			return false
		}
		e := s.queue[0]
		if e.latest.Live(now) { // used since it was put there
			e.due = e.latest.Expires()
			heap.Fix(&s.queue, 0)
			continue
		}
		s.remove(e)
		t.expired.note(e)
		t.journal.Note(e.id, nil)
	}
	return true
}

// sweeper removes expired records where no new ones come.
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
		for more := true; more; { // a batch at a time, so that no request waits long for the lock
			s.mu.Lock()
			if more = t.expire(s, t.clock.now(), 64); !more {
				left += len(s.entries)
			}
			s.mu.Unlock()
		}
	}
	if left > 0 {
		t.sweeper.arm(t)
	}
}

// Close stops the timer. The table may still be used; expired records are then removed only when others are created.
func (t *Table) Close() {
	w := &t.sweeper
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// expiryQueue is a heap of entries by the time at which they are looked at. A use of a session does not move its entry:
// the queue finds out when it gets there.
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
