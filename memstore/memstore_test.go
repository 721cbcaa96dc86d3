package memstore_test

import (
	"testing"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/storetest"
)

var harness = storetest.Harness{
	Open: func(t testing.TB) driver.Store {
		s := memstore.New()
		t.Cleanup(func() { s.Close() })
		return s
	},
	Len: func(_ testing.TB, s driver.Store) int { return s.(*memstore.Store).Len() },
	// One store acts as two processes on one server.
	Second: func(_ testing.TB, s driver.Store) driver.Store { return s },
}

func TestStore(t *testing.T) { storetest.Run(t, harness) }

func BenchmarkStore(b *testing.B) { storetest.RunBenchmarks(b, harness) }
