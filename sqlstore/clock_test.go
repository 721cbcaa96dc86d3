package sqlstore

import (
	"testing"
	"time"
)

// TestServerClockIsNotAhead: the estimate is not ahead of the server's clock, and behind it by no
// more than an answer takes. It follows a step of that clock with the next answer.
func TestServerClockIsNotAhead(t *testing.T) {
	// The server's clock follows the monotonic clock. The process may stop between the readings of
	// its wall clock and of its monotonic clock in time.Now, so that the two disagree by that stop.
	epoch := begun.Round(0)
	server := func(t time.Time, ahead time.Duration) time.Time { return epoch.Add(t.Sub(begun) + ahead) }
	var c serverClock
	for _, ahead := range []time.Duration{time.Hour, time.Hour, -time.Hour, 0, 2 * time.Hour} {
		for range 100 {
			asked := time.Now()
			c.set(server(asked, ahead).UnixMicro(), asked)
			now := time.Now()
			wrong := c.at(now).Sub(server(now, ahead))
			if least := asked.Sub(now) - 2*time.Microsecond; wrong > 2*time.Microsecond || wrong < least {
				t.Fatalf("the estimate is %v ahead of a server whose clock is %v ahead, want %v at least", wrong, ahead, least)
			}
		}
	}
}
