package driver

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// Hash is the SHA-256 hash of one random part of a token, cut to 128 bits. A store knows tokens
// only by their hashes.
type Hash [16]byte

// HashOf returns the hash of secret.
func HashOf(secret []byte) Hash {
	sum := sha256.Sum256(secret)
	return Hash(sum[:16])
}

// String returns the hash as 22 characters of base64url, as formats write it.
func (h Hash) String() string { return encoding.EncodeToString(h[:]) }

// Equal compares in constant time.
func (h Hash) Equal(o Hash) bool { return subtle.ConstantTimeCompare(h[:], o[:]) == 1 }

// ParseHash is the inverse of [Hash.String].
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != encoding.EncodedLen(len(h)) {
		return h, fmt.Errorf("%w: %.40q: a hash has 22 characters", ErrFormat, s)
	}
	// Decode skips line breaks, so check the length of its output.
	if n, err := encoding.Decode(h[:], []byte(s)); err != nil || n != len(h) {
		return Hash{}, fmt.Errorf("%w: %q is not base64url", ErrFormat, s)
	}
	return h, nil
}

// encoding is strict: each value has exactly one text.
var encoding = base64.RawURLEncoding.Strict()

// ID identifies a record in a store.
type ID struct {
	Bucket   uint16 // keys of one bucket share a slot of a Redis Cluster
	Selector Hash   // hash of the token's selector; user data: the owner
	UserData bool   // the record is a user's data, not a session: see Joiner
}

// String returns the session's handle. It is public: safe to log, to list and to put in a URL. It
// identifies the record and grants no access. The text for user data has "~" in place of "-". It is
// for logs: [ParseID] refuses it, so that no call that ends a session can mean it.
func (id ID) String() string {
	var b [handleSize]byte
	hex.Encode(b[:4], []byte{byte(id.Bucket >> 8), byte(id.Bucket)})
	b[4] = '-'
	if id.UserData {
		b[4] = '~'
	}
	encoding.Encode(b[5:], id.Selector[:])
	return string(b[:])
}

const handleSize = 4 + 1 + 22

// ParseID is the inverse of [ID.String] for sessions.
func ParseID(handle string) (ID, error) {
	var id ID
	if len(handle) != handleSize || handle[4] != '-' {
		return id, fmt.Errorf("%w: %.40q: a handle looks like 1a2b-Q0aBc3… and has %d characters",
			ErrFormat, handle, handleSize)
	}
	var bucket [2]byte
	if _, err := hex.Decode(bucket[:], []byte(handle[:4])); err != nil {
		return id, fmt.Errorf("%w: handle %q does not begin with four hexadecimal digits", ErrFormat, handle)
	}
	id.Bucket = uint16(bucket[0])<<8 | uint16(bucket[1])
	selector, err := ParseHash(handle[5:])
	if err != nil {
		return ID{}, err
	}
	id.Selector = selector
	if id.String() != handle {
		return ID{}, fmt.Errorf("%w: handle %q: hexadecimal digits are lower-case", ErrFormat, handle)
	}
	return id, nil
}

// ErrFormat reports a stored value or a handle that does not follow the format.
var ErrFormat = errors.New("invalid format")
