package driver

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of names. They are part of the format, so all languages refuse the same names.
const (
	MaxName  = 64  // bytes of a field's name
	MaxEntry = 256 // bytes of an entry's key
)

// Key names one value of a record: a field ("theme"), or an entry of a field that is a map
// ("cart.gifts:book"). Formats store the value under this name. A field's name has no colon, so
// fields and entries never collide, and the entries of one field are adjacent when keys are sorted.
type Key string

// EntryKey returns the key of an entry of a map field.
func EntryKey(field, entry string) Key { return Key(field + ":" + entry) }

// Split returns the field's name, and the entry's key if k names an entry.
func (k Key) Split() (field, entry string, isEntry bool) { return strings.Cut(string(k), ":") }

// Check returns an error if k is invalid. A field's name has 1 to [MaxName] of the bytes a-z A-Z
// 0-9 . _ -. An entry's key has at most [MaxEntry] bytes of valid UTF-8 and may be empty. The error
// wraps [ErrName].
func (k Key) Check() error {
	field, entry, _ := k.Split()
	if field == "" {
		return fmt.Errorf("%w: %q: a field's name is empty", ErrName, k)
	}
	if len(field) > MaxName {
		return fmt.Errorf("%w: %.80q: a field's name has at most %d bytes", ErrName, field, MaxName)
	}
	for i := range len(field) {
		if !isNameByte(field[i]) {
			return fmt.Errorf("%w: %q: a field's name has only the bytes a-z A-Z 0-9 . _ -", ErrName, field)
		}
	}
	if len(entry) > MaxEntry {
		return fmt.Errorf("%w: an entry's key in field %q has %d bytes, at most %d are allowed",
			ErrName, field, len(entry), MaxEntry)
	}
	if !utf8.ValidString(entry) {
		return fmt.Errorf("%w: an entry's key in field %q is not UTF-8: %q", ErrName, field, entry)
	}
	return nil
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// ErrName reports a name of a field or an entry that the format does not allow.
var ErrName = errors.New("invalid name")
