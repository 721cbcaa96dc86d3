package ticket

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Ring holds the keys derived from an application's keys. The first key signs and seals; every key
// verifies and opens. The zero Ring has no keys: it signs nothing and accepts every well-formed
// token. A Ring is safe for concurrent use.
type Ring struct {
	macKeys       [][]byte
	seals         []sealKey
	events        []cipher.AEAD
	userKey       []byte
	unsignedUntil time.Time
}

const (
	keySize = 32
	macSize = 18 // 144 bits: a signed token is a whole number of base64 characters
)

// NewRing derives a key for each purpose from each of keys. Until unsignedUntil the ring also
// accepts tokens without a signature. A nil userKey stands for 32 zero bytes.
func NewRing(keys [][]byte, unsignedUntil time.Time, userKey []byte) (*Ring, error) {
	r := &Ring{unsignedUntil: unsignedUntil}
	for i, k := range keys {
		if err := CheckKey(k); err != nil {
			return nil, fmt.Errorf("key %d %w", i, err)
		}
		for j := range i {
			if hmac.Equal(k, keys[j]) {
				return nil, fmt.Errorf("key %d is key %d again", i, j)
			}
		}
		if err := r.add(k); err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
	}
	var err error
	if r.userKey, err = newUserKey(userKey); err != nil {
		return nil, fmt.Errorf("user key: %w", err)
	}
	return r, nil
}

// add derives what the ring keeps of a key.
func (r *Ring) add(k []byte) error {
	mac, err := hkdf.Key(sha256.New, k, nil, "coatcheck/1 token", keySize)
	if err != nil {
		return err
	}
	seal, err := newSealKey(k)
	if err != nil {
		return err
	}
	event, err := newEventKey(k)
	if err != nil {
		return err
	}
	r.macKeys, r.seals, r.events = append(r.macKeys, mac), append(r.seals, seal), append(r.events, event)
	return nil
}

// CheckKey returns an error if a key is not 32 bytes long or is all zeros. The error's text
// continues a sentence that begins with the key's name.
func CheckKey(key []byte) error {
	if len(key) != keySize {
		return fmt.Errorf("has %d bytes: a key has %d, from crypto/rand", len(key), keySize)
	}
	if !slices.ContainsFunc(key, func(b byte) bool { return b != 0 }) {
		return errors.New("is all zeros: was it never filled in?")
	}
	return nil
}

func (r *Ring) signs() bool { return len(r.macKeys) > 0 }

// sign appends the MAC of b to b.
func (r *Ring) sign(b []byte) []byte { return append(b, mac(r.macKeys[0], b)...) }

// verifyToken reports whether the last macSize bytes of a token are its signature. It takes a copy,
// so that tokens that nobody signs stay on the stack.
func (r *Ring) verifyToken(token [tokenSize + macSize]byte) bool {
	return r.verify(token[:tokenSize], token[tokenSize:])
}

// verify reports whether sum is the MAC of b under one of the keys.
func (r *Ring) verify(b, sum []byte) bool {
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
