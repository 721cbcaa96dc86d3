package redisstore

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestServerClock: the estimate stays within the bounds of the answers, however long they take.
func TestServerClock(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	ahead := 3 * time.Hour // the server's clock is ahead
	var c serverClock
	at := started
	for range 2000 {
		asked := at
		said := asked.Add(time.Duration(random.Int64N(int64(200 * time.Millisecond))))
		answered := said.Add(time.Duration(random.Int64N(int64(200 * time.Millisecond))))
		before := c.offset.Load()
		c.set(said.Add(ahead), asked, answered)
		is := time.Duration(c.offset.Load()) - time.Duration(started.UnixNano())
		if is > ahead+time.Millisecond {
			t.Fatalf("the clock is %v ahead of the server's", is-ahead)
		}
		if c.offset.Load() < before {
			t.Fatal("the clock went back, though the server's did not")
		}
		at = answered
	}
	if off := ahead - (time.Duration(c.offset.Load()) - time.Duration(started.UnixNano())); off > 10*time.Millisecond {
		t.Errorf("the clock is %v behind the server's after many answers", off)
	}
}

// TestServerClockWithWholeMilliseconds: the estimate in milliseconds is never ahead of a time that
// the server says later, and never behind one that it said before.
func TestServerClockWithWholeMilliseconds(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	ahead := 3 * time.Hour
	var c serverClock
	estimate := func(at time.Time) int64 { return (c.offset.Load() + int64(at.Sub(started))) / int64(time.Millisecond) }
	at, last := started, int64(0)
	for range 2000 {
		asked := at.Add(time.Duration(random.Int64N(int64(3 * time.Millisecond))))
		said := asked.Add(time.Duration(random.Int64N(int64(2 * time.Millisecond))))
		answered := said.Add(time.Duration(random.Int64N(int64(2 * time.Millisecond))))
		ms := said.Add(ahead).UnixMilli()
		if c.offset.Load() != 0 && estimate(asked) > ms {
			t.Fatalf("the estimate was %d, and then the server said %d", estimate(asked), ms)
		}
		before := c.offset.Load()
		c.setMilliseconds(ms, asked, answered)
		if c.offset.Load() < before {
			t.Fatal("the clock went back, though the server's did not")
		}
		last = max(last, ms)
		if got := estimate(answered); got < last {
			t.Fatalf("the estimate is %d, but the server said %d before", got, last)
		}
		at = asked.Add(time.Duration(random.Int64N(int64(5 * time.Millisecond)))) // calls overlap
		if at.Before(answered) && random.IntN(2) == 0 {
			at = answered
		}
	}
	if off := ahead - (time.Duration(c.offset.Load()) - time.Duration(started.UnixNano())); off > 2*time.Millisecond {
		t.Errorf("the clock is %v behind the server's after many answers", off)
	}
}
