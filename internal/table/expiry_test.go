package table

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session/driver"
)

func (t *Table) mustCreate(tb testing.TB, id driver.ID, idle time.Duration) {
	tb.Helper()
	o := &driver.RecordSpec{Secret: driver.Secret(id.Selector), Idle: idle, Lifetime: 24 * time.Hour}
	if _, err := t.Create(tb.Context(), id, o, &driver.Change{}); err != nil {
		tb.Fatal(err)
	}
}

func numbered(i int) driver.ID {
	return driver.ID{Selector: driver.HashOf([]byte{byte(i), byte(i >> 8), byte(i >> 16)})}
}

// mustBeConsistent checks that the queue of each shard has exactly the entries of its map, in
// order.
func (t *Table) mustBeConsistent(tb testing.TB) {
	tb.Helper()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.queue) != len(s.entries) {
			tb.Fatalf("shard %d: the queue has %d entries, the map %d", i, len(s.queue), len(s.entries))
		}
		for at, e := range s.queue {
			if s.entries[e.id] != e || e.index != at {
				tb.Fatalf("shard %d: entry %d is not in the map, or has the index %d", i, at, e.index)
			}
			if e.due.After(e.latest.Expires()) {
				tb.Fatalf("shard %d: an entry is due %v after it expires", i, e.due.Sub(e.latest.Expires()))
			}
			if parent := (at - 1) / 2; at > 0 && e.due.Before(s.queue[parent].due) {
				tb.Fatalf("shard %d: entry %d comes after a later one", i, at)
			}
		}
	}
}

// After any operations, the queue has exactly the existing sessions.
func TestQueueAndMapAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		table := New(nil, time.Time{})
		defer table.Close()
		for i := range 20_000 {
			id := numbered(rng.IntN(3000))
			id.Selector[0] = 0 // all in one shard, so that it fills
			switch rng.IntN(8) {
			case 0, 1, 2:
				if _, _, err := table.Load(t.Context(), id); err != nil && !errors.Is(err, driver.ErrEnded) {
					table.mustCreate(t, id, time.Duration(1+rng.IntN(60))*time.Minute)
				}
			case 3, 4:
				table.Touch(t.Context(), id, driver.Hash{})
			case 5:
				table.Apply(t.Context(), id, &driver.Change{})
			case 6:
				table.End(t.Context(), id)
			case 7:
				time.Sleep(time.Duration(rng.IntN(10)) * time.Second)
			}
			if i%500 == 0 {
				table.mustBeConsistent(t)
			}
		}
		if table.Len() == 0 {
			t.Fatal("no session was left to end: the test covers too little")
		}
		time.Sleep(2 * time.Hour)
		table.mustBeConsistent(t)
		if got := table.Len(); got != 0 {
			t.Errorf("%d sessions did not expire", got)
		}
	})
}

// A shard that was large becomes small again.
func TestShrink(t *testing.T) {
	table := New(nil, time.Time{})
	defer table.Close()
	s := &table.shards[0]
	id := func(i int) driver.ID {
		id := numbered(i)
		id.Selector[0] = 0
		return id
	}
	for i := range 5000 {
		table.mustCreate(t, id(i), time.Hour)
	}
	for i := range 4999 {
		table.End(t.Context(), id(i))
	}
	if s.most >= shrinkAbove || cap(s.queue) >= shrinkAbove {
		t.Errorf("one session of 5000 is left, but the map has room for %d and the queue for %d", s.most, cap(s.queue))
	}
	table.mustBeConsistent(t)
	if _, _, err := table.Load(t.Context(), id(4999)); err != nil {
		t.Errorf("the last session: %v", err)
	}
}

// The timer runs only while there are sessions, and does not run after Close.
func TestSweeperStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := New(nil, time.Time{})
		armed := func() bool {
			table.sweeper.mu.Lock()
			defer table.sweeper.mu.Unlock()
			return table.sweeper.armed
		}
		if armed() {
			t.Error("the timer of an empty table runs")
		}
		table.mustCreate(t, numbered(1), time.Hour)
		time.Sleep(30*time.Minute + time.Second)
		if !armed() {
			t.Error("the timer does not run while there is a session")
		}
		time.Sleep(time.Hour)
		if armed() || table.Len() != 0 {
			t.Errorf("after the last session: the timer runs %v, %d sessions", armed(), table.Len())
		}
		table.mustCreate(t, numbered(2), time.Hour)
		time.Sleep(2 * time.Hour)
		if table.Len() != 0 {
			t.Error("the timer did not run again")
		}
		table.Close()
		table.mustCreate(t, numbered(3), time.Hour)
		time.Sleep(2 * time.Hour)
		if table.Len() != 1 {
			t.Error("a closed table removed expired sessions")
		}
		if _, _, err := table.Load(t.Context(), numbered(3)); err != driver.ErrNotFound {
			t.Errorf("an expired session in a closed table: %v, want ErrNotFound", err)
		}
	})
}
