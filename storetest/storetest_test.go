package storetest_test

import (
	"context"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/storetest"
)

// exampleHarness is what the author of exampleStore writes to run the suite on it.
func exampleHarness(now func() time.Time) storetest.Harness {
	return storetest.Harness{
		Open:   func(testing.TB) driver.Store { return newExampleStore(now) },
		Reopen: func(_ testing.TB, s driver.Store) driver.Store { return s },
		Second: func(_ testing.TB, s driver.Store) driver.Store { return s },
		Len: func(_ testing.TB, s driver.Store) int {
			s.(*exampleStore).vacuum()
			return len(s.(*exampleStore).records)
		},
	}
}

func TestExampleStore(t *testing.T) { storetest.Run(t, exampleHarness(time.Now)) }

// TestExampleStoreWithOwnClock: a store with its own clock needs no bubble, because the harness
// moves the clock.
func TestExampleStoreWithOwnClock(t *testing.T) {
	clock := time.Now()
	h := exampleHarness(func() time.Time { return clock })
	h.Wait = func(_ testing.TB, d time.Duration) { clock = clock.Add(d) }
	h.Unit = time.Minute
	storetest.Run(t, h)
}

func BenchmarkExampleStore(b *testing.B) { storetest.RunBenchmarks(b, exampleHarness(time.Now)) }

// TestExampleStoreEncoded: the suite passes if each record is encoded and decoded after each
// change, as in a database.
func TestExampleStoreEncoded(t *testing.T) {
	h := exampleHarness(time.Now)
	h.Open = func(testing.TB) driver.Store { return encodingStore{newExampleStore(time.Now)} }
	h.Len = func(_ testing.TB, s driver.Store) int {
		s.(encodingStore).vacuum()
		return len(s.(encodingStore).records)
	}
	storetest.Run(t, h)
}

// encodingStore is an exampleStore that replaces each new record by its decoded encoding.
type encodingStore struct{ *exampleStore }

// encode replaces the record at id. After an error of the change it returns that error.
func (s encodingStore) encode(id driver.ID, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if err != nil || r == nil {
		return err
	}
	if r, err = driver.Decode(driver.Encode(r)); err != nil {
		return err
	}
	s.records[id] = r
	return nil
}

func (s encodingStore) Create(
	ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change,
) (*driver.Result, error) {
	res, err := s.exampleStore.Create(ctx, id, spec, c)
	return res, s.encode(id, err)
}

func (s encodingStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	res, err := s.exampleStore.Apply(ctx, id, c)
	return res, s.encode(id, err)
}

func (s encodingStore) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	return s.encode(id, s.exampleStore.Touch(ctx, id, verifier))
}

func (s encodingStore) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	res, err := s.exampleStore.SignIn(ctx, id, in)
	return res, s.encode(id, err)
}
