package ticket

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/coatcheck-go/session/driver"
)

// ErrSealed is session.ErrSealed: no key of the ring opens a sealed value.
var ErrSealed = errors.New("session: no key of Config.Keys opens the stored value")

const (
	sealMark   = "~1"
	sealIDSize = 3       // whole base64 characters, so all values of a key share a prefix
	sealExtra  = 12 + 16 // nonce and tag
)

var sealEncoding = base64.RawURLEncoding.Strict()

// sealKey is what sealing needs of one key of a ring.
type sealKey struct {
	master []byte // the sessions' keys are derived from it
	prefix string // the mark and the key's id; every value sealed with the key begins with it
}

func newSealKey(k []byte) (s sealKey, err error) {
	if s.master, err = hkdf.Extract(sha256.New, k, nil); err != nil {
		return s, err
	}
	id, err := hkdf.Expand(sha256.New, s.master, "coatcheck/1 seal id", sealIDSize)
	s.prefix = sealMark + sealEncoding.EncodeToString(id)
	return s, err
}

// NewSecret returns a random "@id" for a new session.
func NewSecret() (s driver.Secret) {
	rand.Read(s[:])
	return s
}

// IsSealed reports whether a stored value is sealed, in this form or that of another version.
func IsSealed(value []byte) bool { return len(value) > 0 && value[0] == sealMark[0] }

// CanOpen returns nil if a stored value is plain, or sealed with a key of the ring. Otherwise it
// returns an error that wraps ErrSealed and names the key k of the value. It does not decrypt.
func (r *Ring) CanOpen(k driver.Key, value []byte) error {
	if !IsSealed(value) {
		return nil
	}
	for i := range r.seals {
		if bytes.HasPrefix(value, []byte(r.seals[i].prefix)) {
			return nil
		}
	}
	if !bytes.HasPrefix(value, []byte(sealMark)) {
		return fmt.Errorf("%w: %q is in a form that this program does not know", ErrSealed, k)
	}
	ids := make([]string, len(r.seals))
	for i := range r.seals {
		ids[i] = r.seals[i].prefix[len(sealMark):]
	}
	id := value[len(sealMark):min(len(value), len(sealMark)+sealEncoding.EncodedLen(sealIDSize))]
	return fmt.Errorf("%w: %q is sealed with key %q, and Config.Keys has %q: was a key dropped too early?",
		ErrSealed, k, id, ids)
}

// Sealer seals and opens the values of one session. It is not safe for concurrent use.
type Sealer struct {
	ring   *Ring
	secret driver.Secret
	aeads  []cipher.AEAD // one for each key of the ring, made at its first use
}

// Sealer returns the Sealer of the session whose "@id" is secret.
func (r *Ring) Sealer(secret driver.Secret) *Sealer { return &Sealer{ring: r, secret: secret} }

// Secret returns the "@id" of the session.
func (s *Sealer) Secret() driver.Secret { return s.secret }

func (s *Sealer) aead(i int) (cipher.AEAD, error) {
	if s.aeads == nil {
		s.aeads = make([]cipher.AEAD, len(s.ring.seals))
	}
	if s.aeads[i] != nil {
		return s.aeads[i], nil
	}
	info := "coatcheck/1 seal " + driver.Hash(s.secret).String()
	key, err := hkdf.Expand(sha256.New, s.ring.seals[i].master, info, keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	s.aeads[i], err = cipher.NewGCMWithRandomNonce(block)
	return s.aeads[i], err
}

// data returns the associated data of a value. The "@id" has a fixed length and k is unique within
// a session, so no two values have the same associated data.
func (s *Sealer) data(k driver.Key) []byte {
	return append(append(make([]byte, 0, len(s.secret)+len(k)), s.secret[:]...), k...)
}

// Seal returns the sealed form of a value, made with the ring's first key. The ring must have a
// key.
func (s *Sealer) Seal(k driver.Key, value []byte) ([]byte, error) {
	aead, err := s.aead(0)
	if err != nil {
		return nil, err
	}
	box := make([]byte, 0, sealExtra+len(value))
	box = aead.Seal(box, nil, value, s.data(k)) //nolint:gosec // the AEAD draws its own nonce
	prefix := s.ring.seals[0].prefix
	text := append(make([]byte, 0, len(prefix)+sealEncoding.EncodedLen(len(box))), prefix...)
	return sealEncoding.AppendEncode(text, box), nil
}

// Open returns the value of a stored form. It returns a plain value as it is. The error wraps
// ErrSealed if no key opens the value.
func (s *Sealer) Open(k driver.Key, text []byte) ([]byte, error) {
	if !IsSealed(text) {
		return text, nil
	}
	for i := range s.ring.seals {
		coded, ok := bytes.CutPrefix(text, []byte(s.ring.seals[i].prefix))
		if !ok {
			continue
		}
		box := make([]byte, sealEncoding.DecodedLen(len(coded)))
		_, err := sealEncoding.Decode(box, coded)
		if err != nil || bytes.ContainsAny(coded, "\r\n") { // Decode skips line breaks
			continue
		}
		aead, err := s.aead(i)
		if err != nil {
			return nil, err
		}
		plain := make([]byte, 0, max(0, len(box)-sealExtra))
		if plain, err = aead.Open(plain, nil, box, s.data(k)); err == nil {
			return plain, nil
		}
	}
	if err := s.ring.CanOpen(k, text); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %q has its key in Config.Keys, "+
		"but was altered in the store or moved from another place", ErrSealed, k)
}
