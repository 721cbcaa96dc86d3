package storetest_test

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/storetest"
)

// ownHarness is what the author of ownStore writes to run the suite on it.
func ownHarness(now func() time.Time) storetest.Harness {
	return storetest.Harness{
		Open:   func(testing.TB) driver.Store { return ownStore{newDatabase(now)} },
		Reopen: func(_ testing.TB, s driver.Store) driver.Store { return ownStore{s.(ownStore).db} },
		Second: func(_ testing.TB, s driver.Store) driver.Store { return ownStore{s.(ownStore).db} },
		Len: func(_ testing.TB, s driver.Store) int {
			s.(ownStore).db.vacuum()
			return s.(ownStore).db.len()
		},
	}
}

func TestOwnStore(t *testing.T) { storetest.Run(t, ownHarness(time.Now)) }

// A store with a clock of its own needs no bubble: the harness moves the clock.
func TestOwnStoreWithOwnClock(t *testing.T) {
	clock := time.Now()
	h := ownHarness(func() time.Time { return clock })
	h.Wait = func(_ testing.TB, d time.Duration) { clock = clock.Add(d) }
	h.Unit = time.Minute
	storetest.Run(t, h)
}

func BenchmarkOwnStore(b *testing.B) { storetest.RunBenchmarks(b, ownHarness(time.Now)) }
