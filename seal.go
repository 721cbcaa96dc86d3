package session

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/coatcheck-go/session/driver"
)

// A sealed value is a text that is no JSON, so that none is taken for a value in clear, and that has one form:
//
//	"~1", and in base64url without padding
//	byte  0–2   id of the key
//	      3–14  nonce, random
//	     15–    the value under AES-256-GCM, and the tag of 16 bytes
//
// The key is the session's own, HKDF-SHA256(key of the ring, no salt, info "coatcheck/1 seal " and @id, 32 bytes), so that nonces do not
// run out however long a key of the ring is in use. The associated data are the 16 bytes of @id and the name under which the value is
// stored: no value opens in another session, field or entry. The id of the key tells at a glance that it is missing.
const (
	sealMark   = "~1"
	sealIDSize = 3 // whole characters of base64, so a key's values have a beginning of their own
	sealExtra  = 12 + 16
)

var sealEncoding = base64.RawURLEncoding.Strict()

// sealKey is what a key of the ring seals with.
type sealKey struct {
	master []byte // of the sessions' keys
	prefix string // of all that is sealed with it: the mark and the id
}

func newSealKey(k []byte) (s sealKey, err error) {
	if s.master, err = hkdf.Extract(sha256.New, k, nil); err != nil {
		return s, err
	}
	id, err := hkdf.Expand(sha256.New, s.master, "coatcheck/1 seal id", sealIDSize)
	s.prefix = sealMark + sealEncoding.EncodeToString(id)
	return s, err
}

func isSealed(value []byte) bool { return len(value) > 0 && value[0] == sealMark[0] }

// has reports whether a value is in clear or sealed by a key of the ring; it does not open it.
func (r *keyring) has(k driver.Key, value []byte) error {
	if !isSealed(value) {
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
	return fmt.Errorf("%w: %q is sealed with key %q, and Config.Keys has %q: was a key dropped too early?", ErrSealed, k, id, ids)
}

// sealer seals and opens the values of one session. It is not safe for concurrent use.
type sealer struct {
	ring   *keyring
	secret driver.Secret
	aeads  []cipher.AEAD // of the ring's keys, made when needed
}

func (r *keyring) sealer(secret driver.Secret) *sealer { return &sealer{ring: r, secret: secret} }

func (b *sealer) aead(i int) (cipher.AEAD, error) {
	if b.aeads == nil {
		b.aeads = make([]cipher.AEAD, len(b.ring.seals))
	}
	if b.aeads[i] != nil {
		return b.aeads[i], nil
	}
	key, err := hkdf.Expand(sha256.New, b.ring.seals[i].master, "coatcheck/1 seal "+driver.Hash(b.secret).String(), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	b.aeads[i], err = cipher.NewGCMWithRandomNonce(block)
	return b.aeads[i], err
}

// data is what a value is bound to. @id has one length, and no two values of a session have one name.
func (b *sealer) data(k driver.Key) []byte {
	return append(append(make([]byte, 0, len(b.secret)+len(k)), b.secret[:]...), k...)
}

// seal returns the stored form of a value, with the first key.
func (b *sealer) seal(k driver.Key, value []byte) ([]byte, error) {
	aead, err := b.aead(0)
	if err != nil {
		return nil, err
	}
	box := aead.Seal(make([]byte, 0, sealExtra+len(value)), nil, value, b.data(k)) //nolint:gosec // it draws the nonce by itself, and takes none
	prefix := b.ring.seals[0].prefix
	return sealEncoding.AppendEncode(append(make([]byte, 0, len(prefix)+sealEncoding.EncodedLen(len(box))), prefix...), box), nil
}

// open returns the value of a stored form. One in clear is returned as it is.
func (b *sealer) open(k driver.Key, text []byte) ([]byte, error) {
	if !isSealed(text) {
		return text, nil
	}
	for i := range b.ring.seals {
		coded, ok := bytes.CutPrefix(text, []byte(b.ring.seals[i].prefix))
		if !ok {
			continue
		}
		box := make([]byte, sealEncoding.DecodedLen(len(coded)))
		if _, err := sealEncoding.Decode(box, coded); err != nil || bytes.ContainsAny(coded, "\r\n") { // which Decode passes over
			continue
		}
		aead, err := b.aead(i)
		if err != nil {
			return nil, err
		}
		if value, err := aead.Open(make([]byte, 0, max(0, len(box)-sealExtra)), nil, box, b.data(k)); err == nil {
			return value, nil
		}
	}
	if err := b.ring.has(k, text); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %q has its key in Config.Keys, and was changed in the store, or put there from another place", ErrSealed, k)
}

// checkSeal says what sealing lacks.
func (c *Config) checkSeal() error {
	switch {
	case !c.Seal:
		return nil
	case len(c.Keys) == 0:
		return errors.New("session: Config.Seal needs Config.Keys: there is nothing to seal with")
	case len(c.UserKey) == 0:
		return errors.New("session: Config.Seal needs Config.UserKey: without it a dump of the store tells who is signed in to anybody who can guess a user's id")
	}
	return nil
}

// ownSecret returns the @id of the session, of one that is not stored yet the one that it will have. The caller holds the lock, as of all
// below.
func (s *Session) ownSecret() driver.Secret {
	if s.secret == (driver.Secret{}) {
		s.secret = newSecret()
	}
	return s.secret
}

func (s *Session) sealer() *sealer {
	if secret := s.ownSecret(); s.box == nil || s.box.secret != secret {
		s.box = s.m.keys.sealer(secret)
	}
	return s.box
}

// sealed returns a value as it will be stored.
func (s *Session) sealed(k driver.Key, value []byte) ([]byte, error) {
	if !s.m.cfg.Seal || value == nil {
		return value, nil
	}
	return s.sealer().seal(k, value)
}

// opened returns what a stored value is.
func (s *Session) opened(k driver.Key, value []byte) ([]byte, error) {
	if !isSealed(value) {
		return value, nil
	}
	return s.sealer().open(k, value)
}

// canOpen makes r what the session's values are opened with. It reports whether their keys are there, and opens who is signed in: so a key
// that is missing, or another than it was, is an error before a handler runs, at the price of comparing the beginnings of values.
func (s *Session) canOpen(r *driver.Record) (err error) {
	s.secret = r.Secret // also of a session that cannot be read: see csrfSecret
	for i := range r.Fields {
		if err := s.m.keys.has(r.Fields[i].Key, r.Fields[i].Value); err != nil {
			return err
		}
	}
	p := r.Principal
	if p == nil {
		return nil
	}
	if p.Sealed != "" {
		if s.who, err = s.sealer().openPrincipal(p); err != nil {
			return err
		}
		p = s.who
	}
	if !s.m.owns(p.Owner, p.User) {
		return errUserKey
	}
	return nil
}

// value returns one value as the request sees it, opened. It must not be modified. The caller does not hold the lock.
func (s *Session) value(k driver.Key) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.fields().Get(k)
	b, err := s.opened(k, b)
	return b, ok && err == nil, err
}

// resealedOps returns the buffered operations for a session with another secret.
func (s *Session) resealedOps(to driver.Secret) ([]driver.Op, error) {
	if !s.m.cfg.Seal {
		return s.ops, nil
	}
	move := s.m.keys.mover(to)
	ops := append([]driver.Op(nil), s.ops...)
	for i := range ops {
		var err error
		if ops[i].Value, err = move(s.sealer(), ops[i].Key, ops[i].Value); err != nil {
			return nil, err
		}
	}
	return ops, nil
}

// mover returns what moves stored values from one session to that with the secret. What is in clear stays so: it may be a counter. One value
// always comes out the same: a store may ask twice, and must answer with what it stored.
func (r *keyring) mover(to driver.Secret) func(from *sealer, k driver.Key, value []byte) ([]byte, error) {
	type old struct {
		key  driver.Key
		text string
	}
	box, moved := r.sealer(to), map[old][]byte{}
	return func(from *sealer, k driver.Key, value []byte) ([]byte, error) {
		if !isSealed(value) {
			return value, nil
		}
		if text, ok := moved[old{k, string(value)}]; ok {
			return text, nil
		}
		plain, err := from.open(k, value)
		if err != nil {
			return nil, err
		}
		text, err := box.seal(k, plain)
		moved[old{k, string(value)}] = text
		return text, err
	}
}

// resealing makes what carry lets through fit into the session with the secret.
func (m *Manager) resealing(to driver.Secret, carry func(*driver.Record) driver.Fields) func(*driver.Record) (driver.Fields, error) {
	move := m.keys.mover(to)
	return func(from *driver.Record) (driver.Fields, error) {
		fields := carry(from)
		var box *sealer
		for i, f := range fields {
			if !isSealed(f.Value) {
				continue
			}
			if box == nil {
				box, fields = m.keys.sealer(from.Secret), append(driver.Fields(nil), fields...)
			}
			var err error
			if fields[i].Value, err = move(box, f.Key, f.Value); err != nil {
				return nil, err
			}
		}
		return fields, nil
	}
}

// open is opened for callers that do not hold the lock.
func (s *Session) open(k driver.Key, value []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened(k, value)
}
