package sqlstore

import (
	"sync/atomic"
	"time"
)

// begun is where this process's monotonic times begin.
var begun = time.Now()

// serverClock estimates the time of the database's server: the monotonic clock of this process plus
// an offset. The server reads its clock between question and answer. So each answer bounds the
// offset on both sides, and the offset moves only as far as these bounds ask. Therefore the
// estimate is behind the server's time, by as long as the fastest answer was under way.
type serverClock struct {
	offset atomic.Int64 // microseconds since 1970 minus monotonic time; 0: not known
}

// set notes that the server's time was now at some moment between asked and this one.
func (c *serverClock) set(now int64, asked time.Time) {
	least := now - time.Since(begun).Microseconds() - 1 // for what both clocks cut off
	most := now - asked.Sub(begun).Microseconds() + 1
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

// at returns the estimate of the server's time at a moment of this process.
func (c *serverClock) at(t time.Time) time.Time {
	if offset := c.offset.Load(); offset != 0 {
		return time.UnixMicro(offset + t.Sub(begun).Microseconds())
	}
	return t.Round(0)
}
