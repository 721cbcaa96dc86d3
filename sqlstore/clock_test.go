package sqlstore

import (
	"testing"
	"time"
)

// TestServerClockIsNotAhead: the estimate is not ahead of the server's clock. It follows a step of
// that clock with the next answer.
func TestServerClockIsNotAhead(t *testing.T) {
	var c serverClock
	for _, ahead := range []time.Duration{time.Hour, time.Hour, -time.Hour, 0, 2 * time.Hour} {
		for range 100 {
			asked := time.Now()
			c.set(asked.Add(ahead).UnixMicro(), asked)
			now := time.Now()
			if wrong := c.at(now).Sub(now.Add(ahead)); wrong > 2*time.Microsecond || wrong < -10*time.Second {
				t.Fatalf("the estimate is %v ahead of a server whose clock is %v ahead", wrong, ahead)
			}
		}
	}
}
