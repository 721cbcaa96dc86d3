package session

import (
	"context"

	"github.com/coatcheck-go/session/driver"
)

// Value is one value of type T. The last write of the field wins. [Value.Update] is atomic, [Value.Take] hands the value to one caller.
type Value[T any] string

// Get returns a fresh copy: changing it changes nothing. The zero T if unset. A stored value that is not a T fails the request with
// [ErrDecode], a sealed one that does not open with [ErrSealed]; [Value.Lookup] is for code that expects one.
func (v Value[T]) Get(s *Session) T {
	t, _, err := v.Lookup(s)
	if err != nil {
		s.fail(err)
	}
	return t
}

// Lookup is Get for code that must tell unset from zero, or an older program's value from both: its error is [ErrDecode] or [ErrSealed],
// and does not stick.
func (v Value[T]) Lookup(s *Session) (t T, ok bool, err error) {
	return lookup[T](s, driver.Key(v))
}

// Set sets the value. One that does not encode as JSON fails the commit with [ErrInvalid].
func (v Value[T]) Set(s *Session, t T) { put(s, driver.Key(v), t) }

// Take removes the value and returns it, to exactly one caller: for a notice after a redirect. It commits the request's other changes in the
// same step. If the value is unset, ok is false and the store is not asked. Errors: those of [Session.Commit]; [ErrDecode], and the value
// is gone.
func (v Value[T]) Take(ctx context.Context, s *Session) (t T, ok bool, err error) {
	return take[T](ctx, s, driver.Key(v))
}

// Delete unsets the value.
func (v Value[T]) Delete(s *Session) { s.change(driver.Op{Kind: driver.Unset, Key: driver.Key(v)}) }

// Update replaces the value by what f makes of it, atomically, and commits the request's other changes with it. f is called again
// with a newer value when another request was faster, so it must do nothing else; it must not Update the session. An error of f
// stops it, changes nothing, and is returned. Other errors: as [Session.Commit].
func (v Value[T]) Update(ctx context.Context, s *Session, f func(T) (T, error)) (T, error) {
	return update(ctx, s, driver.Key(v), func(t T, _ bool) (T, error) { return f(t) })
}

func update[T any](ctx context.Context, s *Session, k driver.Key, f func(T, bool) (T, error)) (T, error) {
	var made T
	err := s.update(ctx, k, func(present []byte) ([]byte, error) {
		var t T
		var err error
		if present != nil {
			if t, err = decode[T](k, present); err != nil {
				return nil, err
			}
		}
		if t, err = f(t, present != nil); err != nil {
			return nil, err
		}
		made = t
		b, ok := encode(s, k, t)
		if !ok {
			return nil, s.Commit(ctx) // the error that encode left
		}
		return b, nil
	})
	if err != nil {
		var zero T
		return zero, err
	}
	return made, nil
}
