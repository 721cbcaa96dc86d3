package redisstore

import (
	"sync/atomic"
	"time"
)

// serverClock is the servers' time as far as this process can tell: its own monotonic clock, with an offset. Records are compared with
// it, so that clocks of nodes may differ; what remains is the difference between servers of one Cluster.
//
// A server that says its time while a question is under way had it some time between question and answer. So each answer bounds the
// offset from both sides, and the offset moves no further than into the bounds: never ahead of a server's time that is seen later, nor
// behind one that was seen before, however long an answer took.
type serverClock struct{ offset atomic.Int64 } // of the server's time since 1970, over the monotonic clock; nanoseconds

// set notes that the server said at while a question was under way.
func (c *serverClock) set(at, asked, answered time.Time) {
	least, most := at.UnixNano()-int64(answered.Sub(started)), at.UnixNano()-int64(asked.Sub(started))
	for {
		old := c.offset.Load()
		next := min(max(old, least), most)
		if old == 0 {
			next = least
		}
		if next == old || c.offset.CompareAndSwap(old, next) {
			return
		}
	}
}

func (c *serverClock) now() time.Time {
	offset := c.offset.Load()
	if offset == 0 {
		return time.Now().Truncate(time.Millisecond)
	}
	return time.UnixMilli((offset + int64(time.Since(started))) / int64(time.Millisecond))
}
