package ticket

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/coatcheck-go/session/driver"
)

const csrfSize = 18 // 144 bits: a CSRF token is a whole number of base64 characters

var csrfEncoding = base64.RawURLEncoding

// CSRFToken returns a CSRF token of the session whose "@id" is secret. Each call returns a
// different token, and all of them are valid.
func CSRFToken(secret driver.Secret) string {
	var pad [csrfSize]byte
	rand.Read(pad[:])
	return csrfText(secret, pad)
}

// CheckCSRF returns an error if token is not a CSRF token of the session whose "@id" is secret.
func CheckCSRF(secret driver.Secret, token string) error {
	var b [2 * csrfSize]byte
	if len(token) != csrfEncoding.EncodedLen(len(b)) {
		return fmt.Errorf("a token of %d characters", len(token))
	}
	// The decoder skips line breaks, so it may return fewer bytes.
	if n, err := csrfEncoding.Decode(b[:], []byte(token)); err != nil || n != len(b) {
		return errors.New("a token that is not base64url")
	}
	subtle.XORBytes(b[csrfSize:], b[csrfSize:], b[:csrfSize])
	if !hmac.Equal(b[csrfSize:], csrfKey(secret)) {
		return errors.New("a token that is forged or from another session")
	}
	return nil
}

// csrfKey returns the key that a session's CSRF tokens contain.
func csrfKey(secret driver.Secret) []byte {
	key, err := hkdf.Key(sha256.New, secret[:], nil, "coatcheck/1 csrf", csrfSize)
	if err != nil {
		panic(err) // only for a length that HKDF-SHA256 cannot produce
	}
	return key
}

// csrfText returns the CSRF token with this pad: the pad, and the key masked with it.
func csrfText(secret driver.Secret, pad [csrfSize]byte) string {
	var b [2 * csrfSize]byte
	copy(b[:], pad[:])
	subtle.XORBytes(b[csrfSize:], pad[:], csrfKey(secret))
	return csrfEncoding.EncodeToString(b[:])
}
