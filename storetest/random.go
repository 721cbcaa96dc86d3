package storetest

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/coatcheck-go/session/driver"
)

// asDriverSays makes random changes, and compares the outcome in the store with that of package
// driver.
func asDriverSays(k *kit) {
	const seed, changes = 7, 400
	rng := rand.New(rand.NewPCG(seed, seed))
	v := k.create()
	for i := range changes {
		before := k.load(v)
		c := v.change(randomOps(rng)...)
		c.MaxSize = 1 << (6 + rng.IntN(6))
		res, err := k.store.Apply(k.Context(), v.id, c)
		after, now := k.loadAt(v)
		if res != nil {
			now = res.Now
		}
		want, wantErr := before.Apply(now, c)
		if !sameOpError(err, wantErr) {
			k.Fatalf("change %d, %+v\nbefore %s: error %v, want %v", i, c.Ops, text(before), err, wantErr)
		}
		if wantErr != nil {
			if !same(after, before) {
				k.Fatalf("change %d was refused and had an effect:\nafter  %s\nbefore %s", i, text(after), text(before))
			}
			continue
		}
		if !same(after, want.Record) {
			k.Fatalf("change %d, %+v\nbefore %s\nafter  %s\nwant   %s",
				i, c.Ops, text(before), text(after), text(want.Record))
		}
		if !sameValues(res.Values, want.Values) {
			k.Fatalf("change %d, %+v\nbefore %s: the values are %q, want %q",
				i, c.Ops, text(before), res.Values, want.Values)
		}
	}
}

func randomOps(rng *rand.Rand) []driver.Op {
	keys := []driver.Key{"a", "b", "m", "m:", "m:x", "m:y", "m.:x", "n:x", "n:\x00:é"}
	values := []string{"", "0", "1", "-5", `"text"`, "9223372036854775800", strings.Repeat("z", 40)}
	deltas := []int64{0, 1, -1, 100, math.MaxInt64, math.MinInt64, 1 << 60}
	one := func(s []string) any { return s[rng.IntN(len(s))] }
	ops := make([]driver.Op, 1+rng.IntN(4))
	for i := range ops {
		key := keys[rng.IntN(len(keys))]
		switch rng.IntN(22) {
		case 0, 1, 2, 3, 4:
			ops[i] = set(key, one(values).(string))
		case 5:
			ops[i] = unset(key)
		case 6:
			ops[i] = unsetEntries([]driver.Key{"a", "m", "n"}[rng.IntN(3)])
		case 7:
			if ops[i] = unset(key); rng.IntN(4) == 0 {
				ops[i] = clearAll()
			}
		case 8, 9, 10, 11:
			ops[i] = add(key, deltas[rng.IntN(len(deltas))])
		case 12:
			ops[i] = addWithin(key, deltas[rng.IntN(4)], -100, 100)
		case 13, 14:
			ops[i] = take(key)
		case 15:
			ops[i] = swap(key, nil, one(values))
		case 16, 17:
			ops[i] = swap(key, one(values), one(values))
		case 18:
			ops[i] = swap(key, one(values), nil)
		case 19, 20:
			ops[i] = limit([]driver.Key{"a", "m", "n"}[rng.IntN(3)], rng.IntN(4))
		case 21:
			key = []driver.Key{"a", "@v", "é", ""}[rng.IntN(4)]
			ops[i] = driver.Op{Kind: driver.Kind(rng.IntN(11)), Key: key, Value: []byte("1"), Delta: 1}
		}
	}
	return ops
}

var opErrors = []error{
	driver.ErrConflict, driver.ErrNotInteger, driver.ErrOverflow, driver.ErrFull, driver.ErrTooLarge, driver.ErrName, driver.ErrOp,
}

func sameOpError(got, want error) bool {
	var g, w *driver.OpError
	if !errors.As(want, &w) {
		return got == nil && want == nil
	}
	if !errors.As(got, &g) || g.Index != w.Index || g.Key != w.Key {
		return false
	}
	for _, e := range opErrors {
		if errors.Is(got, e) != errors.Is(want, e) {
			return false
		}
	}
	samePresent := bytes.Equal(g.Present, w.Present) && (g.Present == nil) == (w.Present == nil)
	return samePresent || !errors.Is(want, driver.ErrConflict)
}

func sameValues(got, want [][]byte) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) || (got[i] == nil) != (want[i] == nil) {
			return false
		}
	}
	return true
}
