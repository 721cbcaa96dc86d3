package driver

import (
	"bytes"
	"iter"
	"slices"
	"sort"
	"strings"
)

// Field is one value and its key.
type Field struct {
	Key   Key
	Value []byte // JSON; never modified in place
}

// Fields are the values of a record, sorted by key. Reads use binary search, the entries of a map
// are adjacent, and a change copies one slice.
type Fields []Field

// Get returns the value with key k. The caller must not modify it.
func (f Fields) Get(k Key) ([]byte, bool) {
	if i, ok := f.find(k); ok {
		return f[i].Value, true
	}
	return nil, false
}

// Entries yields the entries of a map field, ordered by their keys.
func (f Fields) Entries(field string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		from, to := f.span(field)
		for _, e := range f[from:to] {
			if !yield(string(e.Key[len(field)+1:]), e.Value) {
				return
			}
		}
	}
}

// Changed returns the names of the fields whose values, or entries, differ between f and g, in
// order.
func (f Fields) Changed(g Fields) (names []string) {
	differ := func(k Key) {
		name, _, _ := k.Split()
		names = append(names, name)
	}
	for len(f) > 0 || len(g) > 0 {
		switch {
		case len(g) == 0 || len(f) > 0 && f[0].Key < g[0].Key:
			differ(f[0].Key)
			f = f[1:]
		case len(f) == 0 || g[0].Key < f[0].Key:
			differ(g[0].Key)
			g = g[1:]
		default:
			if !bytes.Equal(f[0].Value, g[0].Value) {
				differ(f[0].Key)
			}
			f, g = f[1:], g[1:]
		}
	}
	slices.Sort(names) // "cart-x" is between "cart" and "cart:a"
	return slices.Compact(names)
}

// Size returns the bytes of all keys and values. The limit on a session's size applies to it.
func (f Fields) Size() int {
	n := 0
	for i := range f {
		n += f[i].size()
	}
	return n
}

// plain reports that no value is sealed.
func (f Fields) plain() bool {
	return !slices.ContainsFunc(f, func(e Field) bool { return isSealed(e.Value) })
}

// isSealed reports whether a value is sealed: JSON never begins with "~".
func isSealed(value []byte) bool { return len(value) > 0 && value[0] == '~' }

func (f *Field) size() int { return len(f.Key) + len(f.Value) }

func (f Fields) find(k Key) (int, bool) {
	i := sort.Search(len(f), func(i int) bool { return f[i].Key >= k })
	return i, i < len(f) && f[i].Key == k
}

// span returns the range of the entries of a field.
func (f Fields) span(field string) (from, to int) {
	prefix := Key(field + ":")
	from, _ = f.find(prefix)
	to = from + sort.Search(len(f)-from, func(i int) bool {
		return !strings.HasPrefix(string(f[from+i].Key), string(prefix))
	})
	return from, to
}
