package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/coatcheck-go/session"
)

// TestFieldsReadBackWhatWasWritten: each kind of field, in the request that changes it and in the
// next one.
func TestFieldsReadBackWhatWasWritten(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *session.Session)
		seen   func(t *testing.T, s *session.Session)
	}{
		{"counter", func(s *session.Session) { n.Add(s, 5); n.Add(s, -7) }, func(t *testing.T, s *session.Session) {
			mustEqual(t, "n", n.Get(s), -2)
		}},
		{"counter reset", func(s *session.Session) { n.Add(s, 5); n.Reset(s); n.Add(s, 1) },
			func(t *testing.T, s *session.Session) { mustEqual(t, "n", n.Get(s), 1) }},
		{"counter's limits", func(s *session.Session) { n.Add(s, math.MaxInt64); cart.Add(s, "min", math.MinInt64) },
			func(t *testing.T, s *session.Session) {
				mustEqual(t, "n", n.Get(s), math.MaxInt64)
				mustEqual(t, "min", cart.Get(s, "min"), math.MinInt64)
			}},
		{"counters", func(s *session.Session) {
			cart.Add(s, "tea", 2)
			cart.Add(s, "", 1)
			cart.Add(s, "a:b", 3)
			cart.Add(s, "zoë", 4)
			cart.Add(s, "deleted", 4)
			cart.Delete(s, "deleted")
			session.Counters("cart2").Add(s, "x", 1)
			session.Counter("cart-total").Add(s, 1)
			// A field and a map with the same name do not collide.
			session.Counter("cart").Add(s, 99)
		}, func(t *testing.T, s *session.Session) {
			var keys []string
			for k, c := range cart.All(s) {
				keys = append(keys, fmt.Sprint(k, "=", c))
			}
			mustEqual(t, "All", strings.Join(keys, " "), "=1 a:b=3 tea=2 zoë=4")
			mustEqual(t, "tea", cart.Get(s, "tea"), 2)
			mustEqual(t, "deleted", cart.Get(s, "deleted"), 0)
			mustEqual(t, "the field", session.Counter("cart").Get(s), 99)
		}},
		{"counters cleared", func(s *session.Session) { cart.Add(s, "a", 2); cart.Clear(s); cart.Add(s, "b", 1) },
			func(t *testing.T, s *session.Session) { mustEqual(t, "All", len(maps.Collect(cart.All(s))), 1) }},
		{"value", func(s *session.Session) { theme.Set(s, "dark"); theme.Set(s, "light") },
			func(t *testing.T, s *session.Session) {
				mustEqual(t, "theme", theme.Get(s), "light")
				v, ok, err := theme.Lookup(s)
				mustEqual(t, "Lookup", fmt.Sprint(v, ok, err), "lighttrue <nil>")
			}},
		{"value's zero is not unset", func(s *session.Session) { theme.Set(s, "") },
			func(t *testing.T, s *session.Session) {
				v, ok, err := theme.Lookup(s)
				mustEqual(t, "Lookup", fmt.Sprint(v, ok, err), "true <nil>")
			}},
		{"value's nil is not unset", func(s *session.Session) { basket.Set(s, nil) },
			func(t *testing.T, s *session.Session) {
				_, ok, err := basket.Lookup(s)
				mustEqual(t, "Lookup", fmt.Sprint(ok, err), "true <nil>")
			}},
		{"value deleted", func(s *session.Session) { theme.Set(s, "dark"); theme.Delete(s); theme.Delete(s) },
			func(t *testing.T, s *session.Session) {
				_, ok, err := theme.Lookup(s)
				mustEqual(t, "Lookup", fmt.Sprint(ok, err), "false <nil>")
			}},
		{"map", func(s *session.Session) {
			for i, k := range []string{"vase", "book", "cup", "a\x00b"} {
				gifts.Set(s, k, gift{"Ada", i})
			}
			gifts.Delete(s, "cup")
		}, func(t *testing.T, s *session.Session) {
			var keys []string
			for k, g := range gifts.All(s) {
				keys = append(keys, fmt.Sprint(k, g.Price))
			}
			mustEqual(t, "All", strings.Join(keys, " "), "a\x00b3 book1 vase0")
			g, ok := gifts.Get(s, "book")
			mustEqual(t, "Get", fmt.Sprint(g, ok), "{Ada 1} true")
			_, ok = gifts.Get(s, "cup")
			mustEqual(t, "deleted", ok, false)
			for range gifts.All(s) {
				break // ends the loop early
			}
		}},
		{"value set twice", func(s *session.Session) { notice.Set(s, "first"); notice.Set(s, "saved") },
			func(t *testing.T, s *session.Session) {}},
		{"all cleared",
			func(s *session.Session) { n.Add(s, 1); theme.Set(s, "x"); cart.Add(s, "a", 1); s.Clear(); n.Add(s, 3) },
			func(t *testing.T, s *session.Session) {
				mustEqual(t, "n", n.Get(s), 3)
				mustEqual(t, "theme", theme.Get(s), "")
				mustEqual(t, "cart", cart.Get(s, "a"), 0)
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, session.Config{})
			v := s.visitor()
			v.mustDo(func(ctx context.Context, s *session.Session) { tt.change(s); tt.seen(t, s) })
			v.mustDo(func(ctx context.Context, s *session.Session) { tt.seen(t, s) })
		})
	}
}

// TestUnsetFieldsAreZero: reading a field that is not set returns its zero value and no error.
func TestUnsetFieldsAreZero(t *testing.T) {
	newSite(t, session.Config{}).visitor().mustDo(func(ctx context.Context, s *session.Session) {
		mustEqual(t, "counter", n.Get(s), 0)
		mustEqual(t, "value", theme.Get(s), "")
		_, ok := gifts.Get(s, "x")
		mustEqual(t, "map", ok, false)
		for range gifts.All(s) {
			t.Error("All has an entry")
		}
		_, ok, err := notice.Take(ctx, s)
		mustEqual(t, "taken value", fmt.Sprint(ok, err), "false <nil>")
		_, ok, err = gifts.Take(ctx, s, "x")
		mustEqual(t, "taken entry", fmt.Sprint(ok, err), "false <nil>")
	})
}

// TestGetReturnsACopy: a change of the caller's value changes no field.
func TestGetReturnsACopy(t *testing.T) {
	v := newSite(t, session.Config{}).visitor()
	mine := []string{"tea"}
	v.mustDo(func(ctx context.Context, s *session.Session) {
		basket.Set(s, mine)
		mine[0] = "changed"
		basket.Get(s)[0] = "changed"
		mustEqual(t, "own view", basket.Get(s)[0], "tea")
	})
	v.mustDo(func(ctx context.Context, s *session.Session) { mustEqual(t, "stored", basket.Get(s)[0], "tea") })
}

// TestAllAllowsChangesInTheLoop: a loop over a map may change the map.
func TestAllAllowsChangesInTheLoop(t *testing.T) {
	v := newSite(t, session.Config{}).visitor()
	v.mustDo(func(ctx context.Context, s *session.Session) {
		for i := range 10 {
			cart.Add(s, fmt.Sprint(i), 1)
		}
		steps := 0
		for k := range cart.All(s) {
			steps++
			cart.Delete(s, k)
			cart.Add(s, "new"+k, 1)
		}
		mustEqual(t, "steps", steps, 10)
		mustEqual(t, "entries", len(maps.Collect(cart.All(s))), 10)
	})
}

// concurrently runs f in 50 concurrent requests on one session.
func concurrently(v *visitor, f func(ctx context.Context, s *session.Session)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 50 {
		wg.Go(func() {
			<-start
			v.tab().mustDo(f)
		})
	}
	close(start)
	wg.Wait()
}

// TestUpdateIsAtomic: of 50 concurrent updates none is lost.
func TestUpdateIsAtomic(t *testing.T) {
	for name, known := range map[string]func(ctx context.Context, s *session.Session){
		"unset": func(context.Context, *session.Session) {},
		"set":   func(_ context.Context, s *session.Session) { basket.Set(s, nil); gifts.Set(s, "book", gift{}) },
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		v.mustDo(known)
		concurrently(v, func(ctx context.Context, s *session.Session) {
			n.Add(s, 1)
			made, err := basket.Update(ctx, s, func(b []string) ([]string, error) { return append(b, "tea"), nil })
			if err != nil || len(made) == 0 || len(made) > len(basket.Get(s)) {
				t.Errorf("made %d, %v", len(made), err)
			}
			if _, err := gifts.Update(ctx, s, "book",
				func(g gift, ok bool) (gift, error) { g.Price++; return g, nil }); err != nil {
				t.Error(err)
			}
			n.Add(s, 1)
		})
		v.mustDo(func(ctx context.Context, s *session.Session) {
			g, _ := gifts.Get(s, "book")
			mustEqual(t, name, fmt.Sprint(len(basket.Get(s)), g.Price, n.Get(s)), "50 50 101")
		})
	}
}

// TestUpdateIsAtomicAcrossManagers: two Managers on one store share no lock. An update that loses
// the race is computed again.
func TestUpdateIsAtomicAcrossManagers(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	other := *s
	var err error
	if other.m, err = session.New(s.store, patient(session.Config{})); err != nil {
		t.Fatal(err)
	}
	theirs := &visitor{site: &other, cookie: v.cookie}
	calls := 0
	v.mustDo(func(ctx context.Context, s *session.Session) {
		theme.Set(s, "mine")
		if _, err := basket.Update(ctx, s, func(b []string) ([]string, error) {
			if calls++; calls <= 3 {
				theirs.mustDo(func(ctx context.Context, s *session.Session) {
					basket.Update(ctx, s, func(b []string) ([]string, error) { return append(b, "theirs"), nil })
				})
			}
			return append(b, "mine"), nil
		}); err != nil {
			t.Error(err)
		}
		mustEqual(t, "view", strings.Join(basket.Get(s), " "), "theirs theirs theirs mine")
		mustEqual(t, "theme", theme.Get(s), "mine")
	})
	mustEqual(t, "calls", calls, 4)
}

// TestUpdateErrorChangesNothing: if f fails, Update stores nothing and the request goes on.
func TestUpdateErrorChangesNothing(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	s.store.applies.Store(0)
	sorry := errors.New("out of tea")
	v.mustDo(func(ctx context.Context, ses *session.Session) {
		basket.Set(ses, []string{"cup"})
		got, err := basket.Update(ctx, ses, func(b []string) ([]string, error) { return append(b, "tea"), sorry })
		if err != sorry || got != nil {
			t.Errorf("%v, %v", got, err)
		}
		if s.store.applies.Load() != 0 {
			t.Error("Update called the store")
		}
		mustEqual(t, "view", len(basket.Get(ses)), 1)
		n.Add(ses, 1)
	})
	v.mustDo(func(ctx context.Context, s *session.Session) {
		mustEqual(t, "stored", fmt.Sprint(basket.Get(s), n.Get(s)), "[cup] 2")
	})
	v.mustDo(func(ctx context.Context, s *session.Session) { // a panic of f releases the lock
		func() {
			defer func() { recover() }()
			basket.Update(ctx, s, func([]string) ([]string, error) { panic("x") })
		}()
		if _, err := basket.Update(ctx, s,
			func(b []string) ([]string, error) { return append(b, "tea"), nil }); err != nil {
			t.Error(err)
		}
	})
	w := v.do(func(s *session.Session) error {
		_, err := session.Value[any]("any").Update(t.Context(), s, func(any) (any, error) { return func() {}, nil })
		if !errors.Is(err, session.ErrInvalid) {
			t.Errorf("with a result that is not JSON: %v", err)
		}
		return err
	})
	mustAnswer(t, w, 500)
	w = v.do(func(s *session.Session) error {
		_, err := session.Value[int]("basket").Update(t.Context(), s,
			func(int) (int, error) { t.Error("f ran"); return 0, nil })
		if !errors.Is(err, session.ErrDecode) {
			t.Errorf("with a value of another type: %v", err)
		}
		return nil
	})
	mustEqual(t, "status", w.Code, 200)
}

// TestTakeReturnsValueToOneRequest: one of 50 concurrent requests gets the value. The other changes
// of all requests are stored.
func TestTakeReturnsValueToOneRequest(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.mustDo(func(ctx context.Context, s *session.Session) {
		notice.Set(s, "saved")
		gifts.Set(s, "state", gift{"Ada", 1})
	})
	var mu sync.Mutex
	var notices, entries int
	concurrently(v, func(ctx context.Context, s *session.Session) {
		n.Add(s, 1)
		text, ok, err := notice.Take(ctx, s)
		if err != nil || ok != (text == "saved") {
			t.Errorf("%q, %v, %v", text, ok, err)
		}
		g, has, err := gifts.Take(ctx, s, "state")
		if err != nil || has != (g.For == "Ada") {
			t.Errorf("%v, %v, %v", g, has, err)
		}
		if _, again, _ := notice.Take(ctx, s); again {
			t.Error("one request took the value twice")
		}
		mu.Lock()
		defer mu.Unlock()
		if ok {
			notices++
		}
		if has {
			entries++
		}
	})
	mustEqual(t, "taken", fmt.Sprint(notices, entries, v.count()), "1 1 51")
}

// TestTakeReturnsAValueOfTheSameRequest: a request may take what it has set.
func TestTakeReturnsAValueOfTheSameRequest(t *testing.T) {
	s := newSite(t, session.Config{})
	s.visitor().mustDo(func(ctx context.Context, s *session.Session) {
		notice.Set(s, "saved")
		text, ok, err := notice.Take(ctx, s)
		mustEqual(t, "Take", fmt.Sprint(text, ok, err), "savedtrue <nil>")
	})
}

// TestDecodeErrorFailsTheCommit: reading a value as another type fails the commit. Lookup and Take
// return the error instead.
func TestDecodeErrorFailsTheCommit(t *testing.T) {
	for name, read := range map[string]func(s *session.Session){
		"value":        func(s *session.Session) { session.Value[int]("theme").Get(s) },
		"counter":      func(s *session.Session) { session.Counter("theme").Get(s) },
		"counters":     func(s *session.Session) { session.Counters("gifts").Get(s, "book") },
		"counters all": func(s *session.Session) { _ = maps.Collect(session.Counters("gifts").All(s)) },
		"map":          func(s *session.Session) { session.Map[int]("gifts").Get(s, "book") },
		"map all":      func(s *session.Session) { _ = maps.Collect(session.Map[int]("gifts").All(s)) },
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		v.mustDo(func(_ context.Context, s *session.Session) { theme.Set(s, "x"); gifts.Set(s, "book", gift{}) })
		w := v.do(func(s *session.Session) error {
			n.Add(s, 10)
			read(s)
			n.Add(s, 100)
			if err := s.Commit(t.Context()); !errors.Is(err, session.ErrDecode) {
				t.Errorf("%s: Commit: %v", name, err)
			}
			(session.Route{Fresh: true}).Check(t.Context())
			return nil
		})
		mustAnswer(t, w, 500)
		if log := s.log.String(); !strings.Contains(log, "theme") && !strings.Contains(log, "gifts") {
			t.Errorf("%s: the log does not name the field: %s", name, log)
		}
		mustEqual(t, name+": n", v.count(), 1)
	}
	v := newSite(t, session.Config{}).known()
	v.mustDo(func(_ context.Context, s *session.Session) {
		theme.Set(s, "x")
		_, ok, err := session.Value[int]("theme").Lookup(s)
		if ok || !errors.Is(err, session.ErrDecode) {
			t.Errorf("Lookup: %v, %v", ok, err)
		}
	})
	w := v.do(func(s *session.Session) error { // Take removes the value all the same
		_, ok, err := session.Value[int]("theme").Take(t.Context(), s)
		if ok || !errors.Is(err, session.ErrDecode) {
			t.Errorf("Take: %v, %v", ok, err)
		}
		return nil
	})
	mustEqual(t, "status", w.Code, 200)
	v.mustDo(func(_ context.Context, s *session.Session) { mustEqual(t, "theme", theme.Get(s), "") })
}

type level struct{ n int }

func (l *level) MarshalJSON() ([]byte, error) { return json.Marshal(l.n) }
func (l *level) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &l.n) }

// TestMethodsOfPointersEncodeValues: encoding/json calls them for pointers only.
func TestMethodsOfPointersEncodeValues(t *testing.T) {
	const number session.Value[big.Int] = "number"
	const floor session.Value[level] = "floor"
	v := newSite(t, session.Config{}).visitor()
	v.mustDo(func(_ context.Context, s *session.Session) { number.Set(s, *big.NewInt(7)); floor.Set(s, level{7}) })
	v.mustDo(func(_ context.Context, s *session.Session) {
		seven := number.Get(s)
		mustEqual(t, "number", seven.String(), "7")
		mustEqual(t, "floor", floor.Get(s).n, 7)
	})
}

// TestValuesThatDoNotComeBackAreRefused: what a later request could not read, or would read as
// something else, fails the request that sets it.
func TestValuesThatDoNotComeBackAreRefused(t *testing.T) {
	type result struct{ Err error }
	for name, set := range map[string]func(*session.Session){
		"a string that is not UTF-8": func(s *session.Session) { theme.Set(s, "\xff\xfe") },
		"two keys that would be one": func(s *session.Session) {
			session.Value[map[string]int]("m").Set(s, map[string]int{"\xff": 1, "\xfe": 2})
		},
		"an error":            func(s *session.Session) { session.Value[error]("e").Set(s, errors.New("no")) },
		"a field of a struct": func(s *session.Session) { session.Value[result]("e").Set(s, result{errors.New("no")}) },
	} {
		s := newSite(t, session.Config{})
		w := s.visitor().do(func(ses *session.Session) error {
			set(ses)
			if err := ses.Commit(t.Context()); !errors.Is(err, session.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", name, err)
			}
			return nil
		})
		mustEqual(t, name, w.Code, 500)
	}
	for name, set := range map[string]func(*session.Session){
		"U+FFFD itself":               func(s *session.Session) { theme.Set(s, "\uFFFD") },
		"its escape as text":          func(s *session.Session) { theme.Set(s, `\ufffd \\ufffd`) },
		"an interface that is nil":    func(s *session.Session) { session.Value[result]("e").Set(s, result{}) },
		"an interface with no method": func(s *session.Session) { session.Value[any]("a").Set(s, 7) },
	} {
		mustEqual(t, name, newSite(t, session.Config{}).visitor().do(func(s *session.Session) error { set(s); return nil }).Code, 200)
	}
}

// TestLargeIntegersAreExact: in a field of an integer's type. In an any they lose digits, as in
// package encoding/json.
func TestLargeIntegersAreExact(t *testing.T) {
	const id = 1265476890672672809
	const signed, unsigned = session.Value[int64]("signed"), session.Value[uint64]("unsigned")
	const number, untyped = session.Value[json.Number]("number"), session.Value[any]("untyped")
	v := newSite(t, session.Config{}).visitor()
	v.mustDo(func(_ context.Context, s *session.Session) {
		signed.Set(s, id)
		unsigned.Set(s, math.MaxUint64)
		number.Set(s, "1265476890672672809")
		untyped.Set(s, id)
	})
	v.mustDo(func(_ context.Context, s *session.Session) {
		mustEqual(t, "int64", signed.Get(s), id)
		mustEqual(t, "uint64", unsigned.Get(s), math.MaxUint64)
		mustEqual(t, "json.Number", number.Get(s), "1265476890672672809")
		mustEqual(t, "any", untyped.Get(s), any(1265476890672672768.0))
	})
}

// TestUndecodableValueCanCountAsUnset: a release that changes a type does not fail every page. The
// stored bytes stay until the next write.
func TestUndecodableValueCanCountAsUnset(t *testing.T) {
	const count session.Value[int] = "theme"
	const counts session.Map[int] = "m"
	s := newSite(t, session.Config{UndecodableIsUnset: true})
	v := s.visitor()
	v.mustDo(func(_ context.Context, s *session.Session) {
		theme.Set(s, "dark")
		session.Map[string]("m").Set(s, "a", "x")
	})
	v.mustDo(func(_ context.Context, s *session.Session) {
		mustEqual(t, "Get", count.Get(s), 0)
		if got, ok := counts.Get(s, "a"); ok {
			t.Errorf("Map.Get: %d", got)
		}
		for key, got := range counts.All(s) {
			t.Errorf("Map.All: %s, %d", key, got)
		}
	})
	v.mustDo(func(_ context.Context, s *session.Session) { mustEqual(t, "stored", theme.Get(s), "dark") })
	if log := s.log.String(); strings.Count(log, "field=theme") != 1 || strings.Count(log, "field=m") != 1 {
		t.Errorf("the log: %s", log)
	}
	v.mustDo(func(ctx context.Context, s *session.Session) {
		if got, err := count.Update(ctx, s, func(n int) (int, error) { return n + 1, nil }); got != 1 || err != nil {
			t.Errorf("Update: %d, %v", got, err)
		}
	})
	v.mustDo(func(_ context.Context, s *session.Session) { mustEqual(t, "updated", count.Get(s), 1) })
}
