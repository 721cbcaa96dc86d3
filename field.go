package session

import (
	"encoding/json"
	"fmt"

	"github.com/coatcheck-go/session/driver"
)

// The kinds of field are string types: a field is its name, and declaring one is a conversion. There is nothing to register, to
// bind to a Manager or to initialise, and all can be constants:
//
//	const visits session.Counter = "visits"
//	const theme session.Value[string] = "theme"
//
// A name has 1 to 64 of the bytes a-z A-Z 0-9 . _ -. By custom it begins with the package's own: "cart.items". A write with any
// other name fails the commit. Two packages that declare one name share the field; where their types differ, the second to read
// fails its request with ErrDecode, rather than see a zero that looks like an answer.
//
// Values are JSON, one by one, so that programs in other languages read them.

// encode returns v as it is stored. An error sticks to s.
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

// lookup returns the value under k; unset is the zero T.
func lookup[T any](s *Session, k driver.Key) (v T, ok bool, err error) {
	b, ok, err := s.value(k)
	if !ok {
		return v, false, err
	}
	v, err = decode[T](k, b)
	return v, err == nil, err
}

// put sets the value under k.
func put[T any](s *Session, k driver.Key, v T) {
	if b, ok := encode(s, k, v); ok {
		s.change(driver.Op{Kind: driver.Set, Key: k, Value: b})
	}
}
