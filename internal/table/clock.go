package table

import (
	"sync"
	"time"
)

// clock is the table's time. It follows the system's clock and never goes back. When the system's
// clock is set back, it continues at the pace of the monotonic clock, so a jump does not extend a
// session. All shards share one clock, so no record is newer than the time that another shard sees.
// It is safe for concurrent use.
type clock struct {
	mu    sync.Mutex
	shown time.Time     // the last reading
	mono  time.Duration // the monotonic clock at the last reading
}

// started is the zero of the monotonic clock.
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
