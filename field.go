package session

import (
	"encoding/json"
	"fmt"

	"github.com/coatcheck-go/session/driver"
)

// encode returns v as it is stored. If v does not encode, it returns false and the error sticks to
// s.
func encode[T any](s *Session, k driver.Key, v T) ([]byte, bool) {
	b, err := json.Marshal(v)
	if err != nil {
		s.fail(fmt.Errorf("%w: field %q does not encode: %v", ErrInvalid, k, err))
		return nil, false
	}
	return b, true
}

func decode[T any](k driver.Key, b []byte) (v T, err error) {
	if err := json.Unmarshal(b, &v); err != nil {
		var zero T
		return zero, fmt.Errorf("%w: field %q: %v", ErrDecode, k, err)
	}
	return v, nil
}

// lookup returns the value of k, or the zero T if it is unset.
func lookup[T any](s *Session, k driver.Key) (v T, ok bool, err error) {
	b, ok, err := s.value(k)
	if !ok {
		return v, false, err
	}
	v, err = decode[T](k, b)
	return v, err == nil, err
}

// put sets the value of k.
func put[T any](s *Session, k driver.Key, v T) {
	if b, ok := encode(s, k, v); ok {
		s.change(driver.Op{Kind: driver.Set, Key: k, Value: b})
	}
}
