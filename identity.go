package session

import (
	"errors"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// identity is whose session it is, and what opens its sealed values. It has no lock; Session
// guards it.
type identity struct {
	named     *driver.Record    // the record that the token names, also if it does not open it
	principal *driver.Principal // who is signed in, opened; nil: nobody
	secret    driver.Secret     // the session's; zero: not chosen yet
	box       *ticket.Sealer    // of secret; nil: not needed so far
}

// errUserKey stops a session that this Manager would not find by its user: it could neither be
// listed nor revoked.
var errUserKey = errors.New("session: Config.UserKey is not the one with which this session's user signed in: " +
	"put that one back, or end the older sessions with Manager.RevokeAll")

// recognize makes r's secret the session's, and opens who is signed in. It returns an error if the
// key of a sealed value is missing, or if Config.UserKey has changed. So a missing key is an error
// before a handler runs; the price is a look at the beginning of each value.
func (s *Session) recognize(r *driver.Record) (err error) {
	i := &s.identity
	i.secret, i.principal = r.Secret, nil // also if it cannot be read: see csrfSecret
	for f := range r.Fields {
		if err := s.m.keys.CanOpen(r.Fields[f].Key, r.Fields[f].Value); err != nil {
			return err
		}
	}
	p := r.Principal
	if p == nil {
		return nil
	}
	if p.Sealed != "" {
		if p, err = s.sealer().OpenPrincipal(p); err != nil {
			return err
		}
	}
	if !s.m.knowsOwner(p.Owner, p.User) {
		return errUserKey
	}
	i.principal = p
	return nil
}

// sealer returns what seals and opens the session's values. The secret of a session that is not
// stored yet is chosen here.
func (s *Session) sealer() *ticket.Sealer {
	if secret := s.chosenSecret(); s.identity.box == nil || s.identity.box.Secret() != secret {
		s.identity.box = s.m.keys.Sealer(secret)
	}
	return s.identity.box
}

func (s *Session) chosenSecret() driver.Secret {
	if s.identity.secret == (driver.Secret{}) {
		s.identity.secret = ticket.NewSecret()
	}
	return s.identity.secret
}

// sealed returns a value as it will be stored.
func (s *Session) sealed(k driver.Key, value []byte) ([]byte, error) {
	if !s.m.cfg.Seal || value == nil {
		return value, nil
	}
	return s.sealer().Seal(k, value)
}

// opened returns a stored value in clear.
func (s *Session) opened(k driver.Key, value []byte) ([]byte, error) {
	if !ticket.IsSealed(value) {
		return value, nil
	}
	return s.sealer().Open(k, value)
}

// resealed returns operations of this session for the one with another secret.
func (s *Session) resealed(ops []driver.Op, to driver.Secret) ([]driver.Op, error) {
	if !s.m.cfg.Seal || len(ops) == 0 {
		return ops, nil
	}
	reseal := s.m.keys.Resealer(to)
	ops = append([]driver.Op(nil), ops...)
	for i := range ops {
		var err error
		if ops[i].Value, err = reseal.Value(s.sealer(), ops[i].Key, ops[i].Value); err != nil {
			return nil, err
		}
	}
	return ops, nil
}
