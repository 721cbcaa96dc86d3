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
	// Two handles on one memory are what two processes on one server would be.
	Second: func(_ testing.TB, s driver.Store) driver.Store { return s },
}

func TestStore(t *testing.T) { storetest.Run(t, harness) }

func BenchmarkStore(b *testing.B) { storetest.RunBenchmarks(b, harness) }
