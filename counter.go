package session

import (
	"fmt"
	"iter"

	"github.com/coatcheck-go/session/driver"
)

// Counter is a whole number that adds. No increment is lost, whoever else adds at the same time.
type Counter string

// Get returns the count as this request sees it: the stored one, and its own additions. After [Session.Commit] it is exact.
func (c Counter) Get(s *Session) int64 { return count(s, driver.Key(c)) }

// Add adds n, which may be negative. A sum that does not fit fails the commit with [ErrInvalid].
func (c Counter) Add(s *Session, n int64) {
	s.change(driver.Op{Kind: driver.Add, Key: driver.Key(c), Delta: n})
}

// Reset sets the counter back to 0.
func (c Counter) Reset(s *Session) { s.change(driver.Op{Kind: driver.Unset, Key: driver.Key(c)}) }

// Counters is a counter for each key: the quantities of a cart. Additions to one key from two requests add up. A key is at most 256
// bytes of UTF-8.
type Counters string

// Get returns the count of key as this request sees it, 0 if it has none.
func (c Counters) Get(s *Session, key string) int64 {
	return count(s, driver.EntryKey(string(c), key))
}

// Add adds n, which may be negative, to the count of key.
func (c Counters) Add(s *Session, key string, n int64) {
	s.change(driver.Op{Kind: driver.Add, Key: driver.EntryKey(string(c), key), Delta: n})
}

// Delete removes key and its count.
func (c Counters) Delete(s *Session, key string) {
	s.change(driver.Op{Kind: driver.Unset, Key: driver.EntryKey(string(c), key)})
}

// All yields the keys, in their order, with their counts.
func (c Counters) All(s *Session) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		fields, _ := s.snapshot()
		for key, b := range fields.Entries(string(c)) {
			n, ok := driver.ParseInt(b)
			if !ok {
				s.fail(notACount(driver.EntryKey(string(c), key)))
			}
			if !yield(key, n) {
				return
			}
		}
	}
}

// Clear removes all keys, those included that another request adds before the commit.
func (c Counters) Clear(s *Session) {
	s.change(driver.Op{Kind: driver.UnsetEntries, Key: driver.Key(c)})
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
