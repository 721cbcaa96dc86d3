package memstore_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// A million visitors who never come back leave no memory behind.
func TestMillionSessionsExpire(t *testing.T) {
	n := 1_000_000
	if raceEnabled || testing.Short() {
		n = 200_000
	}
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		defer s.Close()
		empty := heap()
		c := &driver.Change{Ops: []driver.Op{{Kind: driver.Set, Key: "theme", Value: []byte(`"dark"`)}}}
		for i := range n {
			id, o := numbered(i)
			if _, err := s.Create(context.Background(), id, o, c); err != nil {
				t.Fatal(err)
			}
		}
		full := heap()
		if got := s.Len(); got != n {
			t.Fatalf("the store has %d sessions, want %d", got, n)
		}
		time.Sleep(time.Hour - time.Millisecond)
		id, _ := numbered(n / 2)
		if _, _, err := s.Load(context.Background(), id); err != nil {
			t.Errorf("Load a millisecond before the session ends: %v", err)
		}
		time.Sleep(time.Millisecond)
		if _, _, err := s.Load(context.Background(), id); err != driver.ErrNotFound {
			t.Errorf("Load when the session ends: %v, want ErrNotFound", err)
		}
		time.Sleep(2 * time.Minute)
		if got := s.Len(); got != 0 {
			t.Errorf("two minutes after all sessions expired, the store has %d", got)
		}
		if left, held := heap()-empty, full-empty; left > held/5 {
			t.Errorf("%d sessions took %d MiB, and %d MiB are still in use", n, held>>20, left>>20)
		} else {
			t.Logf("%d sessions: %d bytes each, %d left", n, held/int64(n), left/int64(n))
		}
		runtime.KeepAlive(s)
	})
}

func numbered(i int) (driver.ID, *driver.RecordSpec) {
	var h driver.Hash
	binary.BigEndian.PutUint64(h[8:], uint64(i))
	h = driver.HashOf(h[:])
	return driver.ID{Bucket: uint16(i), Selector: h}, &driver.RecordSpec{Secret: driver.Secret(h),
		Idle: time.Hour, Lifetime: 24 * time.Hour}
}

// heap returns the bytes of memory in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestCountIsExact: an expired session does not count, though its memory is not freed yet.
func TestCountIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		defer s.Close()
		create := func(b byte, idle time.Duration) {
			o := &driver.RecordSpec{Secret: driver.Secret{b}, Verifier: driver.Hash{b}, Idle: idle, Lifetime: time.Hour}
			if _, err := s.Create(t.Context(), driver.ID{Selector: driver.Hash{b}}, o, &driver.Change{Verifier: o.Verifier}); err != nil {
				t.Fatal(err)
			}
		}
		create(1, time.Second)
		create(2, time.Hour)
		owner := driver.Hash{7}
		in := &driver.SignIn{Spec: driver.RecordSpec{
			Secret: driver.Secret{3}, Verifier: driver.Hash{3}, Idle: time.Hour, Lifetime: time.Hour,
			Principal: &driver.Principal{User: "ada", Owner: owner},
		}}
		in.Change.Verifier = in.Spec.Verifier
		in.Carry = func(*driver.Record) (driver.Fields, error) { return nil, nil }
		if _, err := s.SignIn(t.Context(), driver.ID{Bucket: driver.BucketOf(owner), Selector: driver.Hash{3}}, in); err != nil {
			t.Fatal(err)
		}
		for _, want := range []driver.Count{{SignedIn: 1, Anonymous: 2, Exact: true}, {SignedIn: 1, Anonymous: 1, Exact: true}} {
			if got, err := s.Count(t.Context(), 1); err != nil || got != want {
				t.Errorf("%+v, %v, want %+v", got, err, want)
			}
			time.Sleep(time.Second)
		}
	})
}
