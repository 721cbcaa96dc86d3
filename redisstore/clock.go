package redisstore

import (
	"sync/atomic"
	"time"
)

// serverClock is the servers' time as far as this process can tell: its own monotonic clock, with the offset last seen. Records are
// compared with it, so that clocks of nodes may differ; what remains is the difference between servers of one Cluster.
type serverClock struct{ offset atomic.Int64 } // of the server's time since 1970, over the monotonic clock; nanoseconds

// set notes that the server said at while a question was under way.
func (c *serverClock) set(at, asked, answered time.Time) {
	middle := asked.Sub(started) + answered.Sub(asked)/2
	c.offset.Store(at.UnixNano() - int64(middle))
}

func (c *serverClock) now() time.Time {
	offset := c.offset.Load()
	if offset == 0 {
		return time.Now().Truncate(time.Millisecond)
	}
	return time.UnixMilli((offset + int64(time.Since(started))) / int64(time.Millisecond))
}
