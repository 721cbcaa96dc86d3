package redisstore

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestEndsDuringAnOutage: while no end gets through, each is tried once a second, however long that takes; after it, at the stated delays.
func TestEndsDuringAnOutage(t *testing.T) {
	e := newEnds()
	id := driver.ID{Bucket: 1}
	e.add(id, driver.Hash{})
	now := time.Now()
	tick := func(away bool, d time.Duration) (tries int) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(250 * time.Millisecond)
			ids, _ := e.due(now)
			tries += len(ids)
			if away {
				e.retry(ids, now)
			}
		}
		return tries
	}
	if n := tick(true, 30*time.Second); n < 20 || n > 30 {
		t.Fatalf("one end was sent %d times in half a minute", n)
	}
	if n := tick(false, 10*time.Minute); n != len(endDelays) {
		t.Errorf("after the outage it was repeated %d times, want %d", n, len(endDelays))
	}
	for i := range e.delayed {
		if n := len(e.delayed[i]); n > 0 {
			t.Errorf("%d are still due", n)
		}
	}
}
