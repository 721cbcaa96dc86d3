package driver

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Draft applies operations to the fields of a record. It defines what each operation means:
// [Record.Apply] uses it, and a request sees its uncommitted changes through it. The zero Draft is
// empty and has the default size limit. A Draft must not be used concurrently.
type Draft struct {
	fields Fields
	size   int
	max    int
	before Fields // of the record
	owned  bool   // the draft may modify fields; otherwise readers of the record share them

	// aside replaces the value of fields[at], unless it is nil. A request that changes one value
	// and does not read it again needs no copy of the fields.
	aside []byte
	at    int
}

// NewDraft returns a draft of the fields of r; of none if r is nil. maxSize limits their size in
// bytes; 0 means [DefaultMaxSize]. r does not change.
func NewDraft(r *Record, maxSize int) Draft {
	if r == nil {
		return Draft{max: maxSize}
	}
	return Draft{fields: r.Fields, before: r.Fields, size: r.Size, max: maxSize}
}

// Fields returns the current fields. The caller must not modify them. The next Do may modify them.
func (d *Draft) Fields() Fields {
	if d.aside != nil {
		d.own(0)
		d.fields[d.at].Value, d.aside = d.aside, nil
	}
	return d.fields
}

// Do applies op. It returns the sum of Add or the value that Take removed, otherwise nil. Its error
// is an *[OpError] with Index 0. After an error the draft is unchanged.
func (d *Draft) Do(op *Op) ([]byte, error) {
	if err := op.Check(); err != nil {
		return nil, &OpError{Key: op.Key, Err: err}
	}
	return d.do(op)
}

func (d *Draft) do(op *Op) ([]byte, error) {
	value, present, err := d.try(op)
	if err == nil {
		return value, nil
	}
	if !errors.Is(err, ErrConflict) {
		present = nil
	}
	return nil, &OpError{Key: op.Key, Err: err, Present: present}
}

func (d *Draft) try(op *Op) (value, present []byte, err error) {
	d.Fields() // nothing is aside
	switch op.Kind {
	case Set:
		return nil, nil, d.put(op.Key, op.Value)
	case Unset:
		d.remove(op.Key)
	case UnsetEntries:
		from, to := d.fields.span(string(op.Key))
		d.cut(from, to)
	case Clear:
		d.fields, d.size, d.owned = nil, 0, true
	case Add:
		return d.add(op)
	case Take:
		value, _ := d.fields.Get(op.Key)
		d.remove(op.Key)
		return value, nil, nil
	case Swap:
		present, ok := d.fields.Get(op.Key)
		if ok != (op.Old != nil) || !bytes.Equal(present, op.Old) {
			return nil, present, ErrConflict
		}
		if op.Value == nil {
			d.remove(op.Key)
			return nil, nil, nil
		}
		return nil, nil, d.put(op.Key, op.Value)
	case Limit:
		return nil, nil, d.limit(op)
	}
	return nil, nil, nil
}

func (d *Draft) limit(op *Op) error {
	from, to := d.fields.span(string(op.Key))
	if to-from <= op.Most {
		return nil
	}
	for _, e := range d.fields[from:to] {
		if _, found := d.before.find(e.Key); !found {
			return fmt.Errorf("%w: %d, and at most %d are allowed", ErrFull, to-from, op.Most)
		}
	}
	return nil
}

func (d *Draft) add(op *Op) (value, present []byte, err error) {
	present, ok := d.fields.Get(op.Key)
	var n int64
	if ok {
		if n, ok = ParseInt(present); !ok {
			return nil, present, ErrNotInteger
		}
	}
	sum := n + op.Delta
	if (sum > n) != (op.Delta > 0) && op.Delta != 0 {
		return nil, present, fmt.Errorf("%w: %d + %d", ErrOverflow, n, op.Delta)
	}
	if !op.Within.allows(sum, op.Delta, present != nil) {
		return nil, present, fmt.Errorf("%w: %d + %d is not between %d and %d",
			ErrConflict, n, op.Delta, op.Within.Min, op.Within.Max)
	}
	value = strconv.AppendInt(make([]byte, 0, 20), sum, 10)
	return value, nil, d.put(op.Key, value)
}

// allows reports whether delta may make a count the sum. A count that is there and is out of the
// range may come closer.
func (r *Range) allows(sum, delta int64, isThere bool) bool {
	switch {
	case r == nil:
		return true
	case sum < r.Min:
		return isThere && delta > 0
	case sum > r.Max:
		return isThere && delta < 0
	}
	return true
}

func (d *Draft) put(k Key, value []byte) error {
	i, found := d.fields.find(k)
	e := Field{k, value}
	size := d.size + e.size()
	if found {
		size -= d.fields[i].size()
	} else if len(d.fields) >= MaxFields {
		return fmt.Errorf("%w: more than %d fields and entries", ErrTooLarge, MaxFields)
	}
	limit := d.max
	if limit == 0 {
		limit = DefaultMaxSize
	}
	if size > limit && size > d.size { // fields that are over a lowered limit may still shrink
		return fmt.Errorf("%w: %d bytes of %d", ErrTooLarge, size, limit)
	}
	d.size = size
	switch {
	case !found:
		d.own(1)
		d.fields = slices.Insert(d.fields, i, e)
	case d.owned:
		d.fields[i].Value = value
	default:
		d.aside, d.at = value, i
	}
	return nil
}

func (d *Draft) remove(k Key) {
	if i, ok := d.fields.find(k); ok {
		d.cut(i, i+1)
	}
}

func (d *Draft) cut(from, to int) {
	if from == to {
		return
	}
	d.size -= d.fields[from:to].Size()
	d.own(0)
	d.fields = slices.Delete(d.fields, from, to)
}

// own copies the fields before the first change, with room for more of them.
func (d *Draft) own(more int) {
	if !d.owned {
		d.fields = append(make(Fields, 0, len(d.fields)+more), d.fields...)
		d.owned = true
	}
}

// ParseInt parses an integer in the form that counters have: decimal, no leading zeros, no "+".
// Redis accepts the same form.
func ParseInt(b []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0, false
	}
	var canonical [20]byte
	return n, bytes.Equal(strconv.AppendInt(canonical[:0], n, 10), b)
}
