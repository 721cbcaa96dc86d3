package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/coatcheck-go/session/driver"
)

// fieldKey returns the key of a field's value. A colon in the name would make it the key of another
// field's entry. It becomes a byte sequence that the store refuses, and that reads like a colon.
func fieldKey[F ~string](field F) driver.Key {
	if strings.IndexByte(string(field), ':') < 0 {
		return driver.Key(field)
	}
	return driver.Key(strings.ReplaceAll(string(field), ":", "\ua789"))
}

// entryKey returns the key of an entry of a field that is a map.
func entryKey[F ~string](field F, entry string) driver.Key {
	return driver.EntryKey(string(fieldKey(field)), entry)
}

// encode returns v as it is stored. If v does not encode, it returns false and the error sticks to
// s.
func encode[T any](s *Session, k driver.Key, v T) ([]byte, bool) {
	b, err := json.Marshal(&v) // of a pointer, so that methods of *T are called
	switch {
	case err != nil:
		s.fail(fmt.Errorf("%w: field %q does not encode: %v", ErrInvalid, k, err))
	case replacesBytes(b):
		s.fail(fmt.Errorf("%w: field %q has a string that is not UTF-8, which JSON cannot hold: store a []byte", ErrInvalid, k))
	default:
		if err := comesBack[T](b); err != nil {
			s.fail(fmt.Errorf("%w: field %q cannot be read back as %T: %v", ErrInvalid, k, v, err))
			return nil, false
		}
		return b, true
	}
	return nil, false
}

// replacesBytes reports whether the encoder has replaced bytes that are not UTF-8. It writes an
// escape for them, and never for a U+FFFD that was there.
func replacesBytes(b []byte) bool {
	const replacement = `\ufffd`
	for {
		i := bytes.Index(b, []byte(replacement))
		if i < 0 {
			return false
		}
		escapes := 0
		for i > escapes && b[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return true
		}
		b = b[i+len(replacement):]
	}
}

// comesBack returns an error if b does not decode into a T, as for an interface that has methods.
// Types without such interfaces are not tried.
func comesBack[T any](b []byte) error {
	if !hasInterface(reflect.TypeFor[T]()) {
		return nil
	}
	var v T
	return json.Unmarshal(b, &v)
}

// interfaces remembers which types contain an interface with methods.
var interfaces sync.Map // reflect.Type to bool

func hasInterface(t reflect.Type) bool {
	if has, ok := interfaces.Load(t); ok {
		return has.(bool)
	}
	has := findInterface(t, map[reflect.Type]bool{})
	interfaces.Store(t, has)
	return has
}

func findInterface(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return t.NumMethod() > 0
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return findInterface(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if findInterface(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

func decode[T any](k driver.Key, b []byte) (v T, err error) {
	if err := json.Unmarshal(b, &v); err != nil {
		var zero T
		return zero, fmt.Errorf("%w: field %q: %v", ErrDecode, k, err)
	}
	return v, nil
}

// cannotDecode fails the request, unless the value counts as unset. It reports whether it does.
func (s *Session) cannotDecode(k driver.Key, err error) (unset bool) {
	if s.isUnset(k, err) {
		return true
	}
	s.fail(err)
	return false
}

// isUnset reports whether a value that does not decode counts as unset. It logs that once for each
// field.
func (s *Session) isUnset(k driver.Key, err error) bool {
	if !s.m.cfg.UndecodableIsUnset || !errors.Is(err, ErrDecode) {
		return false
	}
	field, _, _ := k.Split()
	if _, logged := s.m.undecodable.LoadOrStore(field, true); !logged {
		s.m.cfg.Logger.Warn("session: stored values of a field do not decode, and count as unset", "field", field, "error", err)
	}
	return true
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
