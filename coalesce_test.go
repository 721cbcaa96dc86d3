package session_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
)

// TestMergedChangesEqualTheSequence: a request merges the operations that it buffers. What comes of random ones, in one commit, is
// what comes of the same ones committed one by one, size limit included; and the request saw it coming.
func TestMergedChangesEqualTheSequence(t *testing.T) {
	const size = 100
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := newSite(t, session.Config{MaxSize: size})
		merged, naive := s.known(), s.known()
		var done []string
		var view string
		var refused error
		var accepted []func(*session.Session)
		for range 2 + rng.IntN(30) {
			what, f := randomChange(rng)
			var err error
			naive.do(func(s *session.Session) error { f(s); err = s.Commit(t.Context()); return err })
			if err == nil { // else it is over the limit, and not part of the sequence
				accepted, done = append(accepted, f), append(done, what)
			}
		}
		w := merged.do(func(s *session.Session) error {
			for _, f := range accepted {
				f(s)
			}
			view = dump(s)
			refused = s.Commit(t.Context())
			return refused
		})
		var is, wants string
		merged.do(func(s *session.Session) error { is = dump(s); return nil })
		naive.do(func(s *session.Session) error { wants = dump(s); return nil })
		if w.Code != 200 || is != wants || view != wants {
			t.Fatalf("seed %d: %s\nrefused: %v\nstored  %s\nview    %s\nwant    %s", seed, strings.Join(done, ", "), refused, is, view, wants)
		}
	}
}

func randomChange(rng *rand.Rand) (string, func(*session.Session)) {
	x, delta := []string{"a", "b", "c2"}[rng.IntN(3)], []int64{1, -1, 999_999_999, -999_999_999}[rng.IntN(4)]
	text := strings.Repeat("x", []int{0, 1, 10, 30, 45, 60}[rng.IntN(6)])
	v, m := session.Value[string](x), session.Map[string]("m")
	switch rng.IntN(20) {
	case 0:
		return "clear", func(s *session.Session) { s.Clear() }
	case 1:
		return "m.clear", func(s *session.Session) { m.Clear(s) }
	case 2, 3:
		return x + ".delete", func(s *session.Session) { v.Delete(s) }
	case 4, 5:
		return "m." + x + ".delete", func(s *session.Session) { m.Delete(s, x) }
	case 6:
		return "c.reset", func(s *session.Session) { session.Counter("c").Reset(s) }
	case 7, 8:
		return fmt.Sprint("c+=", delta), func(s *session.Session) { session.Counter("c").Add(s, delta) }
	case 9, 10:
		return fmt.Sprint("k.", x, "+=", delta), func(s *session.Session) { session.Counters("k").Add(s, x, delta) }
	case 11, 12:
		return fmt.Sprint("m.", x, "=", len(text)), func(s *session.Session) { m.Set(s, x, text) }
	default:
		return fmt.Sprint(x, "=", len(text)), func(s *session.Session) { v.Set(s, text) }
	}
}

// dump shows all that randomChange can have changed.
func dump(s *session.Session) string {
	var b strings.Builder
	for _, x := range []session.Value[string]{"a", "b", "c2"} {
		v, ok, _ := x.Lookup(s)
		fmt.Fprint(&b, x, "=", len(v), ok, " ")
	}
	fmt.Fprint(&b, "n=", n.Get(s), " c=", session.Counter("c").Get(s))
	for _, k := range slices.Sorted(maps.Keys(maps.Collect(session.Counters("k").All(s)))) {
		fmt.Fprint(&b, " k.", k, "=", session.Counters("k").Get(s, k))
	}
	for k, v := range session.Map[string]("m").All(s) {
		fmt.Fprint(&b, " m.", k, "=", len(v))
	}
	return b.String()
}
