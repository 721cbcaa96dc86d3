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
