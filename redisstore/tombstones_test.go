package redisstore

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestEndsDuringAnOutage: while no end gets through, each is tried once a second, however long that takes; after it, at the stated delays.
func TestEndsDuringAnOutage(t *testing.T) {
	e := newTombstones()
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
	if n := tick(false, 10*time.Minute); n != len(repeatDelays) {
		t.Errorf("after the outage it was repeated %d times, want %d", n, len(repeatDelays))
	}
	for i := range e.queues {
		if n := len(e.queues[i]); n > 0 {
			t.Errorf("%d are still due", n)
		}
	}
}

// TestEndUnderWay: an end that is being made is not repeated until it is known what it found.
func TestEndUnderWay(t *testing.T) {
	e := newTombstones()
	id, now := driver.ID{Bucket: 1}, time.Now()
	done := e.begin(id, driver.Hash{})
	for range 10 {
		now = now.Add(time.Second)
		if ids, _ := e.due(now); len(ids) > 0 {
			t.Fatal("an end under way was repeated")
		}
	}
	done(false)
	if ids, _ := e.due(now.Add(2 * time.Second)); len(ids) != 1 {
		t.Errorf("%d ends are due afterwards, want the one", len(ids))
	}
}

// TestEndOfNothing: ends of what never was are not kept, however many callers name it, and push out no other.
func TestEndOfNothing(t *testing.T) {
	e := newTombstones()
	kept, made := driver.ID{Bucket: 1}, driver.ID{Bucket: 2}
	e.begin(kept, driver.Hash{})(false)
	e.begin(kept, driver.Hash{})(true) // once more, and it was gone
	first, second := e.begin(made, driver.Hash{}), e.begin(made, driver.Hash{})
	first(true)
	if e.refusal(made) == nil {
		t.Error("it is refused as long as somebody makes its end")
	}
	second(true)
	if len(e.kept) != 1 || len(e.order) != 1 || len(e.inProgress) != 0 || e.refusal(kept) == nil || e.refusal(made) != nil {
		t.Errorf("kept are %v in order %v, under way %v; want %v", e.kept, e.order, e.inProgress, kept)
	}
	first, second = e.begin(made, driver.Hash{}), e.begin(made, driver.Hash{})
	first(false)
	second(true)
	if e.refusal(made) == nil {
		t.Error("one of two found the session, and its end is forgotten")
	}
}
