package ticket

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Token is a credential for one session. The package comment has its format. Tokens are comparable.
type Token struct {
	Bucket     uint16
	Generation uint32

	selector [16]byte
	verifier [16]byte
}

const (
	tokenVersion = 1
	tokenSize    = 1 + 2 + 16 + 4 + 16
)

var tokenEncoding = base64.RawURLEncoding

// Errors of Parse.
var (
	ErrMalformed = errors.New("not a token")
	ErrVersion   = errors.New("a token of another version")
	ErrForged    = errors.New("a token with a wrong signature, or none")
)

// New returns a random token for a new session.
func New() Token {
	var t Token
	var bucket [2]byte
	rand.Read(bucket[:]) // never fails (Go 1.24)
	t.Bucket = binary.BigEndian.Uint16(bucket[:])
	rand.Read(t.selector[:])
	rand.Read(t.verifier[:])
	return t
}

// Derived returns the token that continues another program's session. Equal secrets have equal
// tokens, in all processes. Selector and verifier are the same 128 bits. That tells the token from
// a random one, and a store has only hashes of both.
func Derived(secret []byte) Token {
	b, err := hkdf.Key(sha256.New, secret, nil, "coatcheck/1 adopt", 2+16)
	if err != nil {
		panic(err) // only for a longer key
	}
	t := Token{Bucket: binary.BigEndian.Uint16(b)}
	copy(t.selector[:], b[2:])
	t.verifier = t.selector
	return t
}

// IsDerived reports whether t was made by Derived, and has not been renewed.
func (t *Token) IsDerived() bool { return t.selector == t.verifier }

// Renewed returns t with a new verifier and the next generation. It names the same session.
func (t Token) Renewed() Token {
	t.Generation++
	rand.Read(t.verifier[:])
	return t
}

// ID returns the session's ID in the store.
func (t *Token) ID() driver.ID {
	return driver.ID{Bucket: t.Bucket, Selector: driver.HashOf(t.selector[:])}
}

// VerifierHash returns the hash of the verifier, as the record holds it.
func (t *Token) VerifierHash() driver.Hash { return driver.HashOf(t.verifier[:]) }

// SameSession reports whether t and o name the same session.
func (t *Token) SameSession(o *Token) bool { return t.Bucket == o.Bucket && t.selector == o.selector }

// Text returns the token as it is sent, signed if the ring has keys.
func (t *Token) Text(ring *Ring) string {
	b := make([]byte, 0, tokenSize+macSize)
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint16(b, t.Bucket)
	b = append(b, t.selector[:]...)
	b = binary.BigEndian.AppendUint32(b, t.Generation)
	b = append(b, t.verifier[:]...)
	if ring.signs() {
		b = ring.sign(b)
	}
	return tokenEncoding.EncodeToString(b)
}

// Parse reads a token and checks its signature if the ring has keys. Without keys it ignores a
// signature, so removing all keys from a configuration signs nobody out. Parse does not retain
// text. The error wraps ErrMalformed, ErrVersion or ErrForged.
func Parse(text []byte, ring *Ring) (t Token, err error) {
	var buf [tokenSize + macSize]byte
	size := tokenSize
	signed := len(text) == tokenEncoding.EncodedLen(len(buf))
	if signed {
		size = len(buf)
	}
	if len(text) != tokenEncoding.EncodedLen(size) {
		return t, fmt.Errorf("%w: %d characters", ErrMalformed, len(text))
	}
	// Decode skips line breaks, so check the length of its output.
	if n, err := tokenEncoding.Decode(buf[:], text); err != nil || n != size {
		return t, ErrMalformed
	}
	b := buf[:tokenSize]
	if b[0] != tokenVersion {
		return t, fmt.Errorf("%w: %d", ErrVersion, b[0])
	}
	if ring.signs() {
		if signed && !ring.verifyToken(buf) || !signed && !time.Now().Before(ring.unsignedUntil) {
			return t, ErrForged
		}
	}
	t.Bucket = binary.BigEndian.Uint16(b[1:])
	copy(t.selector[:], b[3:])
	t.Generation = binary.BigEndian.Uint32(b[19:])
	copy(t.verifier[:], b[23:])
	return t, nil
}
