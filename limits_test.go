package session_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
)

func TestNamesAndSizes(t *testing.T) {
	long := strings.Repeat("k", 257)
	for _, tt := range []struct {
		name   string
		change func(s *session.Session)
		err    error
	}{
		{"no name", func(s *session.Session) { session.Counter("").Add(s, 1) }, session.ErrInvalid},
		{"a colon", func(s *session.Session) { session.Counter("a b:c").Add(s, 1) }, session.ErrInvalid},
		{"metadata", func(s *session.Session) { session.Value[int]("@rev").Set(s, 1) }, session.ErrInvalid},
		{"not ASCII", func(s *session.Session) { session.Value[int]("größe").Set(s, 1) }, session.ErrInvalid},
		{"64 bytes", func(s *session.Session) { session.Counter(long[:64]).Add(s, 1) }, nil},
		{"65 bytes", func(s *session.Session) { session.Counter(long[:65]).Add(s, 1) }, session.ErrInvalid},
		{"key of 256 bytes", func(s *session.Session) { cart.Add(s, long[:256], 1) }, nil},
		{"key of 257 bytes", func(s *session.Session) { cart.Add(s, long, 1) }, session.ErrInvalid},
		{"key not UTF-8", func(s *session.Session) { cart.Add(s, "\xff", 1) }, session.ErrInvalid},
		{"bad name of a map", func(s *session.Session) { session.Map[int]("a/b").Clear(s) }, session.ErrInvalid},
		{"take with a bad name", func(s *session.Session) { session.Value[int]("a/b").Take(t.Context(), s) }, session.ErrInvalid},
		{"update with a bad name", func(s *session.Session) {
			session.Value[int]("a/b").Update(t.Context(), s, func(int) (int, error) { return 1, nil })
		}, session.ErrInvalid},
		{"not JSON", func(s *session.Session) { session.Value[float64]("nan").Set(s, math.NaN()) }, session.ErrInvalid},
		{"overflow", func(s *session.Session) { n.Add(s, math.MaxInt64); n.Add(s, 1) }, session.ErrInvalid},
		{"underflow", func(s *session.Session) { n.Add(s, math.MinInt64); n.Add(s, -1) }, session.ErrInvalid},
		{"full", func(s *session.Session) { theme.Set(s, strings.Repeat("x", 200-len(`theme""`))) }, nil},
		{"a byte more", func(s *session.Session) { theme.Set(s, strings.Repeat("x", 201-len(`theme""`))) }, session.ErrTooLarge},
		{"updated to more", func(s *session.Session) {
			theme.Update(t.Context(), s, func(string) (string, error) { return strings.Repeat("x", 200), nil })
		}, session.ErrTooLarge},
		{"4096 changes", func(s *session.Session) {
			for range 2048 {
				cart.Clear(s)
				cart.Add(s, "a", 1)
			}
		}, nil},
		{"more changes", func(s *session.Session) {
			for range 2049 {
				cart.Clear(s)
				cart.Add(s, "a", 1)
			}
		}, session.ErrTooLarge},
		{"a loop of changes is one", func(s *session.Session) {
			for i := range 10_000 {
				n.Add(s, 1)
				cart.Add(s, "a", 1)
				theme.Set(s, fmt.Sprint(i))
			}
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			size := 200
			if strings.Contains(tt.name, "key of") {
				size = 2000
			}
			s := newSite(t, session.Config{MaxSize: size})
			v := s.visitor()
			w := v.do(func(s *session.Session) error {
				tt.change(s)
				if err := s.Commit(t.Context()); !errors.Is(err, tt.err) {
					t.Errorf("Commit: %v, want %v", err, tt.err)
				}
				return nil
			})
			if tt.err != nil {
				wantAnswer(t, w, 500)
				want(t, "stored", s.store.Len(), 0)
			} else {
				want(t, "status", w.Code, 200)
			}
		})
	}
	s := newSite(t, session.Config{})
	w := s.visitor().do(func(s *session.Session) error {
		for i := range 1025 {
			cart.Add(s, fmt.Sprint(i), 1)
		}
		return nil
	})
	wantAnswer(t, w, 500)
}
