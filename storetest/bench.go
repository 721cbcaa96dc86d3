package storetest

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coatcheck-go/session/driver"
)

// RunBenchmarks measures the methods of a store, on one session and on many at the same time. Use
// it to compare stores, or versions of a store. It uses only Harness.Open.
func RunBenchmarks(b *testing.B, h Harness) {
	b.Helper()
	b.Run("load", func(b *testing.B) {
		s, all := openForBenchmark(b, &h, 1)
		for b.Loop() {
			if _, _, err := s.Load(b.Context(), all[0].id); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("load-parallel", func(b *testing.B) {
		s, all := openForBenchmark(b, &h, 1000)
		eachOf(b, all, func(v visitor) error {
			_, _, err := s.Load(b.Context(), v.id)
			return err
		})
	})
	b.Run("add", func(b *testing.B) {
		s, all := openForBenchmark(b, &h, 1)
		c := all[0].change(add("visits", 1))
		for b.Loop() {
			if _, err := s.Apply(b.Context(), all[0].id, c); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("add-parallel", func(b *testing.B) {
		s, all := openForBenchmark(b, &h, 1000)
		eachOf(b, all, func(v visitor) error {
			_, err := s.Apply(b.Context(), v.id, v.change(add("visits", 1)))
			return err
		})
	})
	b.Run("add-parallel-one-session", func(b *testing.B) {
		s, all := openForBenchmark(b, &h, 1)
		eachOf(b, all, func(v visitor) error {
			_, err := s.Apply(b.Context(), v.id, v.change(add("visits", 1)))
			return err
		})
	})
	b.Run("set", func(b *testing.B) {
		s, all := openForBenchmark(b, &h, 1)
		c := all[0].change(set("profile", `{"name":"Ada","roles":["admin"]}`))
		for b.Loop() {
			if _, err := s.Apply(b.Context(), all[0].id, c); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("touch", func(b *testing.B) {
		s, all := openForBenchmark(b, &h, 1)
		for b.Loop() {
			if err := s.Touch(b.Context(), all[0].id, all[0].verifier); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("create-and-end", func(b *testing.B) {
		s, _ := openForBenchmark(b, &h, 1000)
		for b.Loop() {
			v := newVisitor()
			if _, err := s.Create(b.Context(), v.id, v.spec(longIdle, longLifetime), v.change(add("visits", 1))); err != nil {
				b.Fatal(err)
			}
			if err := s.End(b.Context(), v.id); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// openForBenchmark returns a store with n sessions of about 700 bytes.
func openForBenchmark(b *testing.B, h *Harness, n int) (driver.Store, []visitor) {
	b.Helper()
	s := h.Open(b)
	all := make([]visitor, n)
	for i := range all {
		v := newVisitor()
		all[i] = v
		c := v.change(add("visits", 1), set("theme", `"dark"`), set("profile", `{"name":"Ada","roles":["admin","editor"]}`),
			set("page", `"`+strings.Repeat("x", 500)+`"`), add("cart:apples", 3), add("cart:pears", 4))
		if _, err := s.Create(b.Context(), v.id, v.spec(longIdle, longLifetime), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	return s, all
}

func eachOf(b *testing.B, all []visitor, f func(v visitor) error) {
	b.Helper()
	var next atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		for i := next.Add(7919); pb.Next(); i++ {
			if err := f(all[i%uint64(len(all))]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
