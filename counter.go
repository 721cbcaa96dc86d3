package session

import (
	"fmt"
	"iter"

	"github.com/coatcheck-go/session/driver"
)

// Counter is a field that holds an integer. Concurrent additions add up: none is lost.
type Counter string

// Get returns the count as this request sees it: the stored count plus the request's own additions.
// It is exact after [Session.Commit]. A stored value that is not an integer fails the request with
// [ErrDecode].
func (c Counter) Get(s *Session) int64 { return count(s, fieldKey(c)) }

// Add adds n, which may be negative. A sum that overflows int64 fails the commit with [ErrInvalid].
func (c Counter) Add(s *Session, n int64) {
	s.change(driver.Op{Kind: driver.Add, Key: fieldKey(c), Delta: n})
}

// Reset sets the counter to 0.
func (c Counter) Reset(s *Session) { s.change(driver.Op{Kind: driver.Unset, Key: fieldKey(c)}) }

// Counters is a field that holds a counter for each key, such as the quantities of a cart.
// Concurrent additions to a key add up. A key has at most 256 bytes of UTF-8.
type Counters string

// Get returns the count of key as this request sees it, or 0 if it is unset; see [Counter.Get].
func (c Counters) Get(s *Session, key string) int64 {
	return count(s, entryKey(c, key))
}

// Add adds n, which may be negative, to the count of key; see [Counter.Add].
func (c Counters) Add(s *Session, key string, n int64) {
	s.change(driver.Op{Kind: driver.Add, Key: entryKey(c, key), Delta: n})
}

// Delete removes key and its count.
func (c Counters) Delete(s *Session, key string) {
	s.change(driver.Op{Kind: driver.Unset, Key: entryKey(c, key)})
}

// All yields the keys and their counts, sorted by key.
func (c Counters) All(s *Session) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		fields, _ := s.snapshot()
		for key, b := range fields.Entries(string(c)) {
			n, ok := driver.ParseInt(b)
			if !ok {
				s.fail(notACount(entryKey(c, key)))
			}
			if !yield(key, n) {
				return
			}
		}
	}
}

// Clear removes all keys, including keys that another request adds before the commit.
func (c Counters) Clear(s *Session) {
	s.change(driver.Op{Kind: driver.UnsetEntries, Key: fieldKey(c)})
}

func count(s *Session, k driver.Key) int64 {
	b, ok := s.get(k)
	if !ok {
		return 0
	}
	n, ok := driver.ParseInt(b)
	if !ok {
		s.fail(notACount(k))
	}
	return n
}

func notACount(k driver.Key) error {
	return fmt.Errorf("%w: field %q is not a counter", ErrDecode, k)
}
