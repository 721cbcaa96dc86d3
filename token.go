package session

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// A token is what the browser holds: random, of one length, with no meaning that can be read.
//
//	byte  0       version: 1
//	      1–2     bucket
//	      3–18    selector: finds the record
//	     19–22    generation: how many verifiers this session had before
//	     23–38    verifier: the record checks it
//	     39–56    MAC of the bytes before, if the Manager has keys
//
// as base64url without padding: 52 characters, 76 with a MAC. Both lengths are multiples of three bytes, so no character has
// unused bits and one token has one text. Numbers are big-endian.
type token struct {
	bucket     uint16
	selector   [16]byte
	generation uint32
	verifier   [16]byte
}

const (
	tokenVersion = 1
	tokenSize    = 1 + 2 + 16 + 4 + 16
)

var tokenEncoding = base64.RawURLEncoding

var (
	errMalformed = errors.New("not a token")
	errVersion   = errors.New("a token of another version")
	errForged    = errors.New("a token with a wrong signature, or none")
)

// newToken returns a token for a session that is yet to be stored.
func newToken() token {
	var t token
	var bucket [2]byte
	rand.Read(bucket[:]) // never fails (Go 1.24)
	t.bucket = binary.BigEndian.Uint16(bucket[:])
	rand.Read(t.selector[:])
	rand.Read(t.verifier[:])
	return t
}

// renewed returns t with another verifier.
func (t token) renewed() token {
	t.generation++
	rand.Read(t.verifier[:])
	return t
}

func newSecret() (s driver.Secret) {
	rand.Read(s[:])
	return s
}

func (t *token) id() driver.ID {
	return driver.ID{Bucket: t.bucket, Selector: driver.HashOf(t.selector[:])}
}

func (t *token) verifierHash() driver.Hash { return driver.HashOf(t.verifier[:]) }

// text returns the token as it is sent.
func (t *token) text(keys *keyring) string {
	b := make([]byte, 0, tokenSize+macSize)
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint16(b, t.bucket)
	b = append(b, t.selector[:]...)
	b = binary.BigEndian.AppendUint32(b, t.generation)
	b = append(b, t.verifier[:]...)
	if keys.signs() {
		b = keys.sign(b)
	}
	return tokenEncoding.EncodeToString(b)
}

// parseToken reads a token. It keeps nothing of s. A signature is checked if there are keys, and passed over if there are
// none, so that taking keys out of a configuration signs nobody out.
func parseToken(s []byte, keys *keyring) (t token, err error) {
	var buf [tokenSize + macSize]byte
	signed := len(s) == tokenEncoding.EncodedLen(len(buf))
	if !signed && len(s) != tokenEncoding.EncodedLen(tokenSize) {
		return t, fmt.Errorf("%w: %d characters", errMalformed, len(s))
	}
	for _, c := range s {
		if c == '\n' || c == '\r' { // which the decoder would pass over
			return t, errMalformed
		}
	}
	if _, err := tokenEncoding.Decode(buf[:], s); err != nil {
		return t, errMalformed
	}
	b := buf[:tokenSize]
	if b[0] != tokenVersion {
		return t, fmt.Errorf("%w: %d", errVersion, b[0])
	}
	if keys.signs() {
		if signed && !keys.verify(b, buf[tokenSize:]) || !signed && !time.Now().Before(keys.unsignedUntil) {
			return t, errForged
		}
	}
	t.bucket = binary.BigEndian.Uint16(b[1:])
	copy(t.selector[:], b[3:])
	t.generation = binary.BigEndian.Uint32(b[19:])
	copy(t.verifier[:], b[23:])
	return t, nil
}
