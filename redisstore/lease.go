package redisstore

import (
	"sync/atomic"
	"time"
)

// lease says how long the near cache may serve copies without an answer from every primary.
type lease struct {
	length time.Duration
	until  atomic.Int64  // monotonic, since started
	ended  atomic.Int64  // monotonic: a question from before this time does not renew the lease
	wake   chan struct{} // a health check is due now

	wasValid bool // at the last health check, which alone uses it
}

// renew extends the lease, counted from the time at which the primaries were asked.
func (l *lease) renew(asked time.Time) {
	if int64(asked.Sub(started)) <= l.ended.Load() {
		return
	}
	until := int64(asked.Sub(started) + l.length)
	for {
		old := l.until.Load()
		if until <= old || l.until.CompareAndSwap(old, until) {
			return
		}
	}
}

// end ends the lease until the primaries answer a question that is asked after this call.
func (l *lease) end() {
	l.ended.Store(int64(time.Since(started)))
	l.until.Store(0)
	l.checkNow()
}

// checkNow asks for a health check at once. It does not block.
func (l *lease) checkNow() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lease) valid(now time.Time) bool { return int64(now.Sub(started)) < l.until.Load() }
