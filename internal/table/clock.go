package table

import (
	"sync"
	"time"
)

// clock is the time that records live by. It follows the system's clock and never goes back: when the system's clock is
// set back, it runs on from where it was at the pace of the monotonic clock, so that a jump prolongs no limit.
// One is for the whole table: what one shard has made is never of another one's future. It is safe for concurrent use.
type clock struct {
	mu    sync.Mutex
	shown time.Time     // what it said last
	mono  time.Duration // when that was
}

// started is what the monotonic clock counts from.
var started = time.Now()

func (c *clock) now() time.Time {
	t := time.Now()
	return c.read(t.Round(0), t.Sub(started))
}

func (c *clock) read(wall time.Time, mono time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	paced := c.shown.Add(max(0, mono-c.mono))
	if c.shown.IsZero() || !wall.Before(paced) {
		paced = wall
	}
	c.shown, c.mono = paced, max(mono, c.mono)
	return paced
}
