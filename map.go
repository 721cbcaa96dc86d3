package session

import (
	"context"
	"iter"

	"github.com/coatcheck-go/session/driver"
)

// Map is a field that holds a map from string to T. Entries are written one by one, so requests
// that write different entries do not conflict. A key has at most 256 bytes of UTF-8.
type Map[T any] string

func (m Map[T]) key(key string) driver.Key { return entryKey(m, key) }

// Get returns a fresh copy of an entry. If there is none, it returns the zero T and false. A stored
// value that is not a T fails the request with [ErrDecode]. A sealed value that does not open fails
// it with [ErrSealed].
func (m Map[T]) Get(s *Session, key string) (t T, ok bool) {
	t, ok, err := lookup[T](s, m.key(key))
	if err != nil {
		s.cannotDecode(m.key(key), err)
	}
	return t, ok
}

// Set sets an entry. A value that does not encode as JSON fails the commit with [ErrInvalid].
func (m Map[T]) Set(s *Session, key string, t T) { put(s, m.key(key), t) }

// Delete removes an entry.
func (m Map[T]) Delete(s *Session, key string) {
	s.change(driver.Op{Kind: driver.Unset, Key: m.key(key)})
}

// All yields fresh copies of the entries, sorted by key. A value that cannot be read fails the
// request, as in [Map.Get], and All yields the zero T for it.
func (m Map[T]) All(s *Session) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		fields, secret := s.snapshot()
		box := s.m.keys.Sealer(secret)
		for key, b := range fields.Entries(string(m)) {
			var t T
			b, err := box.Open(m.key(key), b)
			if err == nil {
				t, err = decode[T](m.key(key), b)
			}
			if err != nil && s.cannotDecode(m.key(key), err) {
				continue
			}
			if !yield(key, t) {
				return
			}
		}
	}
}

// Clear removes all entries, including entries that another request adds before the commit.
func (m Map[T]) Clear(s *Session) {
	s.change(driver.Op{Kind: driver.UnsetEntries, Key: fieldKey(m)})
}

// Update is [Value.Update] for one entry. ok reports whether the entry exists.
func (m Map[T]) Update(ctx context.Context, s *Session, key string, f func(t T, ok bool) (T, error)) (T, error) {
	return update(ctx, s, m.key(key), f)
}

// Take is [Value.Take] for one entry, such as an OAuth state or a payment in progress.
func (m Map[T]) Take(ctx context.Context, s *Session, key string) (t T, ok bool, err error) {
	return take[T](ctx, s, m.key(key))
}

func take[T any](ctx context.Context, s *Session, k driver.Key) (t T, ok bool, err error) {
	b, ok, err := s.take(ctx, k)
	if !ok || err != nil {
		return t, false, err
	}
	t, err = decode[T](k, b)
	return t, err == nil, err
}
