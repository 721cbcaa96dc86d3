package redisstore

import (
	"sync/atomic"
	"time"
)

// started is where this process's monotonic times begin.
var started = time.Now()

// serverClock estimates the servers' time: the monotonic clock of this process plus an offset.
// The store compares records with it, so the nodes' clocks may differ. Servers of one Cluster may
// still differ from each other.
//
// A server reads its clock between question and answer. So each answer bounds the offset on both
// sides, and the offset moves only as far as these bounds ask. Therefore the estimate is never
// ahead of a server time that is seen later, and never behind one that was seen before.
//
// Scripts reply with whole milliseconds, cut off. The server's time is then anywhere within that
// millisecond, which makes the upper bound a millisecond wider. The health checks read TIME itself.
type serverClock struct {
	offset atomic.Int64 // server time since 1970 minus monotonic time, in nanoseconds; 0: not known
}

// set notes that the server answered with its time.
func (c *serverClock) set(serverTime, asked, answered time.Time) {
	c.bound(serverTime.UnixNano(), serverTime.UnixNano(), asked, answered)
}

// setMilliseconds notes that the server answered with its time in milliseconds.
func (c *serverClock) setMilliseconds(ms int64, asked, answered time.Time) {
	earliest := ms * int64(time.Millisecond)
	c.bound(earliest, earliest+int64(time.Millisecond)-1, asked, answered)
}

// bound notes that the server's time was between earliest and latest at some time between asked and
// answered.
func (c *serverClock) bound(earliest, latest int64, asked, answered time.Time) {
	least := earliest - int64(answered.Sub(started))
	most := latest - int64(asked.Sub(started))
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

// now returns the estimate, or this machine's time before the first answer.
func (c *serverClock) now() time.Time {
	offset := c.offset.Load()
	if offset == 0 {
		return time.Now().Truncate(time.Millisecond)
	}
	return time.UnixMilli((offset + int64(time.Since(started))) / int64(time.Millisecond))
}
