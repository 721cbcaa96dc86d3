package redisstore

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestEndsDuringAnOutage: during an outage each end is repeated once a second. After it, each
// is repeated after repeatDelays.
func TestEndsDuringAnOutage(t *testing.T) {
	stones := newTombstones()
	id := driver.ID{Bucket: 1}
	stones.add(id, driver.Hash{})
	now := time.Now()
	tick := func(outage bool, d time.Duration) (tries int) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(250 * time.Millisecond)
			ids, _ := stones.due(now)
			tries += len(ids)
			if outage {
				stones.retry(ids, now)
			}
		}
		return tries
	}
	if n := tick(true, 30*time.Second); n < 20 || n > 30 {
		t.Fatalf("one end was sent %d times in 30s, want 20 to 30", n)
	}
	if n := tick(false, 10*time.Minute); n != len(repeatDelays) {
		t.Errorf("the end was repeated %d times after the outage, want %d", n, len(repeatDelays))
	}
	for i := range stones.queues {
		if n := len(stones.queues[i]); n > 0 {
			t.Errorf("%d repetitions are still scheduled, want 0", n)
		}
	}
}

// TestEndInProgressIsNotRepeated: an end is not repeated until its first attempt has returned.
func TestEndInProgressIsNotRepeated(t *testing.T) {
	stones := newTombstones()
	id, now := driver.ID{Bucket: 1}, time.Now()
	done := stones.begin(id, driver.Hash{})
	for range 10 {
		now = now.Add(time.Second)
		if ids, _ := stones.due(now); len(ids) > 0 {
			t.Fatal("an end in progress was repeated")
		}
	}
	done(false)
	if ids, _ := stones.due(now.Add(2 * time.Second)); len(ids) != 1 {
		t.Errorf("%d ends are due after the first attempt, want 1", len(ids))
	}
}

// TestEndOfUnknownSessionIsForgotten: an end of a session that never existed leaves no tombstone,
// however many callers make it, and removes no other tombstone.
func TestEndOfUnknownSessionIsForgotten(t *testing.T) {
	stones := newTombstones()
	kept, unknown := driver.ID{Bucket: 1}, driver.ID{Bucket: 2}
	stones.begin(kept, driver.Hash{})(false)
	stones.begin(kept, driver.Hash{})(true) // a second call finds no session
	first, second := stones.begin(unknown, driver.Hash{}), stones.begin(unknown, driver.Hash{})
	first(true)
	if stones.refusal(unknown) == nil {
		t.Error("the session is not refused while a caller ends it")
	}
	second(true)
	if len(stones.kept) != 1 || len(stones.order) != 1 || len(stones.inProgress) != 0 || stones.refusal(kept) == nil || stones.refusal(unknown) != nil {
		t.Errorf("tombstones are %v in order %v, in progress %v; want only %v", stones.kept, stones.order, stones.inProgress, kept)
	}
	first, second = stones.begin(unknown, driver.Hash{}), stones.begin(unknown, driver.Hash{})
	first(false)
	second(true)
	if stones.refusal(unknown) == nil {
		t.Error("the tombstone is missing, although one of two callers found the session")
	}
}
