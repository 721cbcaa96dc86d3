package session

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// keyring signs tokens and seals values with its first key, and accepts and opens those of all. With no keys it accepts any token:
// the store decides.
type keyring struct {
	macKeys       [][]byte
	seals         []sealKey
	events        []cipher.AEAD // seal what nodes tell each other
	user          []byte        // names users to the store
	unsignedUntil time.Time
}

// macSize is 144 bits: a signed token is then a whole number of base64 characters.
const macSize = 18

// newKeyring derives a key for each purpose, so that none serves two.
func newKeyring(keys [][]byte, unsignedUntil time.Time) (keyring, error) {
	r := keyring{unsignedUntil: unsignedUntil}
	for i, k := range keys {
		if len(k) != 32 {
			return r, fmt.Errorf("key %d has %d bytes: a key has 32, from crypto/rand", i, len(k))
		}
		if isZero(k) {
			return r, fmt.Errorf("key %d is all zeros: was it never filled in?", i)
		}
		for j := range i {
			if hmac.Equal(k, keys[j]) {
				return r, fmt.Errorf("key %d is key %d again", i, j)
			}
		}
		mac, err := hkdf.Key(sha256.New, k, nil, "coatcheck/1 token", 32)
		if err != nil {
			return r, err
		}
		seal, err := newSealKey(k)
		if err != nil {
			return r, err
		}
		event, err := newEventKey(k)
		if err != nil {
			return r, err
		}
		r.macKeys, r.seals, r.events = append(r.macKeys, mac), append(r.seals, seal), append(r.events, event)
	}
	return r, nil
}

func (r *keyring) signs() bool { return len(r.macKeys) > 0 }

// sign appends the MAC of b.
func (r *keyring) sign(b []byte) []byte { return append(b, mac(r.macKeys[0], b)...) }

// verify reports whether one of the keys made the MAC of b.
func (r *keyring) verify(b, sum []byte) bool {
	for _, k := range r.macKeys {
		if hmac.Equal(mac(k, b), sum) {
			return true
		}
	}
	return false
}

func mac(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(nil)[:macSize]
}

func isZero(key []byte) bool { return !slices.ContainsFunc(key, func(b byte) bool { return b != 0 }) }
