package redisstore_test

import (
	"testing"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

func benchmarkStore(b *testing.B, run func(s *redisstore.Store, id driver.ID, o *driver.RecordSpec) error) {
	s := open(b, "redis://"+redistest.Start(b, redistest.Options{}).Addr(), redisstore.Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		id, o := fresh()
		if _, err := s.Create(b.Context(), id, o, &driver.Change{Verifier: o.Verifier}); err != nil {
			b.Error(err)
		}
		for pb.Next() {
			if err := run(s, id, o); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkReadWarm(b *testing.B) {
	benchmarkStore(b, func(s *redisstore.Store, id driver.ID, _ *driver.RecordSpec) error {
		_, _, err := s.Load(b.Context(), id)
		return err
	})
}

func BenchmarkReadFresh(b *testing.B) {
	benchmarkStore(b, func(s *redisstore.Store, id driver.ID, _ *driver.RecordSpec) error {
		_, _, err := s.LoadFresh(b.Context(), id)
		return err
	})
}

func BenchmarkAdd(b *testing.B) {
	benchmarkStore(b, func(s *redisstore.Store, id driver.ID, o *driver.RecordSpec) error {
		_, err := s.Apply(b.Context(), id, &driver.Change{Verifier: o.Verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}})
		return err
	})
}
