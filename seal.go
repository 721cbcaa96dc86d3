package session

import (
	"errors"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

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
		s.secret = ticket.NewSecret()
	}
	return s.secret
}

func (s *Session) sealer() *ticket.Sealer {
	if secret := s.ownSecret(); s.box == nil || s.box.Secret() != secret {
		s.box = s.m.keys.Sealer(secret)
	}
	return s.box
}

// sealed returns a value as it will be stored.
func (s *Session) sealed(k driver.Key, value []byte) ([]byte, error) {
	if !s.m.cfg.Seal || value == nil {
		return value, nil
	}
	return s.sealer().Seal(k, value)
}

// opened returns what a stored value is.
func (s *Session) opened(k driver.Key, value []byte) ([]byte, error) {
	if !ticket.IsSealed(value) {
		return value, nil
	}
	return s.sealer().Open(k, value)
}

// canOpen makes r what the session's values are opened with. It reports whether their keys are there, and opens who is signed in: so a key
// that is missing, or another than it was, is an error before a handler runs, at the price of comparing the beginnings of values.
func (s *Session) canOpen(r *driver.Record) (err error) {
	s.secret = r.Secret // also of a session that cannot be read: see csrfSecret
	for i := range r.Fields {
		if err := s.m.keys.CanOpen(r.Fields[i].Key, r.Fields[i].Value); err != nil {
			return err
		}
	}
	p := r.Principal
	if p == nil {
		return nil
	}
	if p.Sealed != "" {
		if s.who, err = s.sealer().OpenPrincipal(p); err != nil {
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
	resealer := s.m.keys.Resealer(to)
	ops := append([]driver.Op(nil), s.ops...)
	for i := range ops {
		var err error
		if ops[i].Value, err = resealer.Value(s.sealer(), ops[i].Key, ops[i].Value); err != nil {
			return nil, err
		}
	}
	return ops, nil
}

// resealing makes what carry lets through fit into the session with the secret.
func (m *Manager) resealing(to driver.Secret, carry func(*driver.Record) driver.Fields) func(*driver.Record) (driver.Fields, error) {
	resealer := m.keys.Resealer(to)
	return func(from *driver.Record) (driver.Fields, error) {
		return resealer.Fields(from.Secret, carry(from))
	}
}

// open is opened for callers that do not hold the lock.
func (s *Session) open(k driver.Key, value []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened(k, value)
}

// principal returns who is signed in, in clear; nil: nobody. It was opened when the record was read, since those who ask cannot be told of
// an error. The caller holds the lock.
func (s *Session) principal() *driver.Principal {
	if s.state != live || s.record == nil || s.record.Principal == nil {
		return nil
	}
	if s.record.Principal.Sealed == "" {
		return s.record.Principal
	}
	p := *s.record.Principal
	p.User, p.Device, p.UserAgent, p.Address, p.Sealed = s.who.User, s.who.Device, s.who.UserAgent, s.who.Address, ""
	return &p
}
