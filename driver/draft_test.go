package driver_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/driver"
)

// model is a simple draft: a map of texts, which is copied before each operation.
type model struct {
	values map[driver.Key]string
	before map[driver.Key]bool // the keys of the original record
	max    int
}

func (m *model) size() (n int) {
	for k, v := range m.values {
		n += len(k) + len(v)
	}
	return n
}

// do returns what Draft.Do must return: the value, "none" for nil, and the error.
func (m *model) do(op *driver.Op) (string, error) {
	before, size := maps.Clone(m.values), m.size()
	value, err := m.change(op)
	grows := op.Kind == driver.Set || op.Kind == driver.Add || op.Kind == driver.Swap
	tooLarge := m.size() > m.max && m.size() > size
	tooMany := len(m.values) > driver.MaxFields && len(m.values) > len(before)
	if err == nil && grows && (tooLarge || tooMany) {
		err = driver.ErrTooLarge
	}
	if err != nil {
		m.values = before
		return "none", err
	}
	return value, nil
}

func (m *model) change(op *driver.Op) (string, error) {
	present, ok := m.values[op.Key]
	if op.Kind != driver.Clear && op.Key.Check() != nil {
		return "", driver.ErrName
	}
	switch op.Kind {
	case driver.Set:
		if op.Value == nil {
			return "", driver.ErrOp
		}
		m.values[op.Key] = string(op.Value)
	case driver.Unset:
		delete(m.values, op.Key)
	case driver.UnsetEntries:
		if strings.Contains(string(op.Key), ":") {
			return "", driver.ErrOp
		}
		maps.DeleteFunc(m.values, func(k driver.Key, _ string) bool { return strings.HasPrefix(string(k), string(op.Key)+":") })
	case driver.Clear:
		m.values = map[driver.Key]string{}
	case driver.Add:
		if !ok {
			present = "0"
		}
		n, good := new(big.Int).SetString(present, 10)
		if !good || n.String() != present || !n.IsInt64() {
			return "", driver.ErrNotInteger
		}
		if n.Add(n, big.NewInt(op.Delta)); !n.IsInt64() {
			return "", driver.ErrOverflow
		}
		if w := op.Within; w != nil && (n.Int64() < w.Min && (!ok || op.Delta <= 0) || n.Int64() > w.Max && (!ok || op.Delta >= 0)) {
			return "", driver.ErrConflict
		}
		m.values[op.Key] = n.String()
		return n.String(), nil
	case driver.Take:
		delete(m.values, op.Key)
		if ok {
			return present, nil
		}
	case driver.Swap:
		if ok != (op.Old != nil) || ok && present != string(op.Old) {
			return "", driver.ErrConflict
		}
		if delete(m.values, op.Key); op.Value != nil {
			m.values[op.Key] = string(op.Value)
		}
	case driver.Limit:
		if strings.Contains(string(op.Key), ":") || op.Most < 0 {
			return "", driver.ErrOp
		}
		n, added := 0, false
		for k := range m.values {
			if strings.HasPrefix(string(k), string(op.Key)+":") {
				n, added = n+1, added || !m.before[k]
			}
		}
		if added && n > op.Most {
			return "", driver.ErrFull
		}
	default:
		return "", driver.ErrOp
	}
	return "none", nil
}

func randomOp(rng *rand.Rand) *driver.Op {
	keys := []driver.Key{"a", "b", "a.", "a:", "a:x", "a:y", "a.:x", "b:z", "c:0", "c:1", "c:2", "c:3", "", "@v", "a:\xff"}
	values := [][]byte{
		nil, {}, []byte("0"), []byte("7"), []byte("-7"), []byte("07"), []byte(`"x"`), []byte("9223372036854775807"),
		bytes.Repeat([]byte("z"), 30),
	}
	deltas := []int64{0, 1, -1, 5, math.MaxInt64, math.MinInt64}
	pick := func() []byte { return values[rng.IntN(len(values))] }
	op := &driver.Op{
		Kind: driver.Kind(rng.IntN(10)), Key: keys[rng.IntN(len(keys))], Value: pick(), Old: pick(),
		Delta: deltas[rng.IntN(len(deltas))], Most: rng.IntN(6) - 1,
	}
	if rng.IntN(3) == 0 {
		op.Within = &driver.Range{Min: -10, Max: 10}
	}
	if op.Kind == driver.Clear && rng.IntN(4) > 0 {
		op.Kind = driver.Set
	}
	return op
}

// After any operations in any order, a draft equals the model, and the original record is
// unchanged.
func TestDraftAgainstModel(t *testing.T) {
	for seed := range uint64(600) {
		rng := rand.New(rand.NewPCG(seed, 1))
		each := seed < 300 // read the draft after each operation, or only after some
		base := &driver.Record{}
		if seed%2 == 1 {
			base.Fields = driver.Fields{
				{Key: "a", Value: []byte("7")}, {Key: "a:x", Value: []byte(strings.Repeat("y", 40))},
				{Key: "b", Value: []byte(`"x"`)}, {Key: "c:1", Value: []byte("0")},
			}
			base.Size = base.Fields.Size()
		}
		before := fmt.Sprintf("%q", base.Fields)
		m := model{values: map[driver.Key]string{}, before: map[driver.Key]bool{}, max: 20 + int(seed)}
		for _, f := range base.Fields {
			m.values[f.Key], m.before[f.Key] = string(f.Value), true
		}
		d := driver.NewDraft(base, m.max)
		for i := range 100 {
			op := randomOp(rng)
			got, err := d.Do(op)
			want, wantErr := m.do(op)
			if !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
				t.Fatalf("seed %d, operation %d, %+v: error %v, want %v", seed, i, op, err, wantErr)
			}
			if text := string(got); err == nil && (got == nil) != (want == "none") || got != nil && text != want {
				t.Fatalf("seed %d, operation %d, %+v: %q, want %q", seed, i, op, got, want)
			}
			if err != nil {
				checkOpError(t, err, op)
			}
			if each || i == 99 || rng.IntN(4) == 0 {
				checkFields(t, &d, &m)
			}
			if t.Failed() {
				t.Fatalf("seed %d, operation %d, %+v: the values are %q", seed, i, op, d.Fields())
			}
		}
		if after := fmt.Sprintf("%q", base.Fields); after != before {
			t.Fatalf("seed %d: the original record changed to %s from %s", seed, after, before)
		}
	}
}

// TestUnreadDraftCopiesNothing: most requests that change a value do not read it again.
func TestUnreadDraftCopiesNothing(t *testing.T) {
	base := &driver.Record{Fields: driver.Fields{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}}}
	base.Size = base.Fields.Size()
	op := driver.Op{Kind: driver.Set, Key: "b", Value: []byte("3")}
	if got := testing.AllocsPerRun(100, func() {
		d := driver.NewDraft(base, 0)
		if _, err := d.Do(&op); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func checkOpError(t *testing.T, err error, op *driver.Op) {
	t.Helper()
	var e *driver.OpError
	if !errors.As(err, &e) || e.Index != 0 || e.Key != op.Key {
		t.Errorf("the error is %#v, want an *OpError on %q", err, op.Key)
	}
}

// checkFields compares the draft with the model in every way that a draft can be read.
func checkFields(t *testing.T, d *driver.Draft, m *model) {
	t.Helper()
	f := d.Fields()
	if len(f) != len(m.values) || f.Size() != m.size() {
		t.Errorf("%d values of %d bytes, want %d of %d", len(f), f.Size(), len(m.values), m.size())
	}
	if !slices.IsSortedFunc(f, func(a, b driver.Field) int { return strings.Compare(string(a.Key), string(b.Key)) }) {
		t.Error("the values are not sorted")
	}
	for k, want := range m.values {
		if got, ok := f.Get(k); !ok || string(got) != want {
			t.Errorf("Get(%q): %q, %v, want %q", k, got, ok, want)
		}
	}
	for _, field := range []string{"a", "a.", "b", "c", "absent"} {
		n := 0
		for entry, value := range f.Entries(field) {
			n++
			if want, ok := m.values[driver.EntryKey(field, entry)]; !ok || want != string(value) {
				t.Errorf("entry %q of %s: %q, want %q, %v", entry, field, value, want, ok)
			}
		}
		want := 0
		for k := range m.values {
			if strings.HasPrefix(string(k), field+":") {
				want++
			}
		}
		if n != want {
			t.Errorf("%s has %d entries, want %d", field, n, want)
		}
	}
}

// A loop over the entries of a map may stop early.
func TestEntriesStops(t *testing.T) {
	f := driver.Fields{{Key: "m:a", Value: []byte("1")}, {Key: "m:b", Value: []byte("2")}}
	for entry := range f.Entries("m") {
		if entry != "a" {
			t.Errorf("the first entry is %q", entry)
		}
		break
	}
}

// The text of an OpError names the field or entry that was refused.
func TestOpErrorText(t *testing.T) {
	for _, test := range []struct {
		err  driver.OpError
		want string
	}{
		{driver.OpError{Key: "visits", Err: driver.ErrNotInteger}, `field "visits": the present value is not an integer`},
		{driver.OpError{Key: "cart:a:b", Err: driver.ErrConflict}, `field "cart", entry "a:b": another value is present`},
		{driver.OpError{Index: 7, Err: driver.ErrOp}, `operation 7: invalid operation`},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
	if got := driver.Swap.String() + " " + driver.Kind(0).String() + " " + driver.Kind(99).String(); got != "swap kind(0) kind(99)" {
		t.Errorf("the names of the kinds are %s", got)
	}
}
