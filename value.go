package session

import (
	"context"

	"github.com/coatcheck-go/session/driver"
)

// Value is a field that holds one value of type T. The last write wins. [Value.Update] changes the
// value atomically, and [Value.Take] returns it to only one caller.
type Value[T any] string

// Get returns a fresh copy of the value, or the zero T if it is unset. A stored value that is not a
// T fails the request with [ErrDecode]. A sealed value that does not open fails it with
// [ErrSealed]. Use [Value.Lookup] to handle these errors.
func (v Value[T]) Get(s *Session) T {
	t, _, err := v.Lookup(s)
	if err != nil {
		s.cannotDecode(fieldKey(v), err)
	}
	return t
}

// Lookup is like Get, but reports whether the value is set, and returns the error of a value that
// cannot be read: [ErrDecode] or [ErrSealed]. The error does not fail the request.
func (v Value[T]) Lookup(s *Session) (t T, ok bool, err error) {
	return lookup[T](s, fieldKey(v))
}

// Set sets the value. A value that does not encode as JSON fails the commit with [ErrInvalid].
func (v Value[T]) Set(s *Session, t T) { put(s, fieldKey(v), t) }

// Take removes the value and returns it to exactly one caller. It is for values that may be used
// only once, such as a notice after a redirect. Take commits the request's other changes in the
// same step. If the value is unset, ok is false and Take does not call the store.
//
// Errors: those of [Session.Commit]. After [ErrDecode] the value is removed.
func (v Value[T]) Take(ctx context.Context, s *Session) (t T, ok bool, err error) {
	return take[T](ctx, s, fieldKey(v))
}

// Delete unsets the value.
func (v Value[T]) Delete(s *Session) { s.change(driver.Op{Kind: driver.Unset, Key: fieldKey(v)}) }

// Update atomically replaces the value with the result of f, and returns the new value. It commits
// the request's other changes in the same step. If another request changes the value first, Update
// calls f again with the newer value. So f must have no side effects, and must not call Update on
// the session. In one process, the Updates of a session take turns, and one that has waited begins
// with the present value.
//
// If f returns an error, Update changes nothing and returns that error. Other errors: those of
// [Session.Commit].
func (v Value[T]) Update(ctx context.Context, s *Session, f func(T) (T, error)) (T, error) {
	return update(ctx, s, fieldKey(v), func(t T, _ bool) (T, error) { return f(t) })
}

func update[T any](ctx context.Context, s *Session, k driver.Key, f func(T, bool) (T, error)) (T, error) {
	var made T
	err := s.update(ctx, k, func(present []byte) ([]byte, error) {
		var t T
		var err error
		if present != nil {
			if t, err = decode[T](k, present); err != nil && !s.isUnset(k, err) {
				return nil, err
			}
		}
		if t, err = f(t, present != nil && err == nil); err != nil {
			return nil, err
		}
		made = t
		b, ok := encode(s, k, t)
		if !ok {
			return nil, s.Commit(ctx) // returns the error of encode
		}
		return b, nil
	})
	if err != nil {
		var zero T
		return zero, err
	}
	return made, nil
}
