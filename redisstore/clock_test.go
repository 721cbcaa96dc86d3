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
