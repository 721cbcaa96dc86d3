package ticket

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
)

// sealedEvent is the first byte of a sealed event. A nonce of 12 bytes and the encrypted event
// follow.
const sealedEvent = 0x01

// SealEvent returns an event as nodes send it: sealed with the first key, or plain without keys.
func (r *Ring) SealEvent(plain []byte) []byte {
	if len(r.events) == 0 {
		return plain
	}
	aead := r.events[0]
	return aead.Seal([]byte{sealedEvent}, nil, plain, nil) //nolint:gosec // it draws its own nonce
}

// OpenEvent returns the plain form of what SealEvent returned. If the ring has keys, it refuses a
// plain event: everybody who can write to the store could have made it.
func (r *Ring) OpenEvent(b []byte) ([]byte, error) {
	if len(b) > 0 && b[0] == sealedEvent {
		for _, key := range r.events {
			if plain, err := key.Open(nil, nil, b[1:], nil); err == nil {
				return plain, nil
			}
		}
		return nil, errors.New("an event that none of Config.Keys opens")
	}
	if len(r.events) > 0 {
		return nil, errors.New("an event that is not sealed, though there are Config.Keys")
	}
	return b, nil
}

// newEventKey derives the key that seals events, each with a random nonce.
func newEventKey(key []byte) (cipher.AEAD, error) {
	own, err := hkdf.Key(sha256.New, key, nil, "coatcheck/1 event", keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(own)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
