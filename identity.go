package session

import (
	"errors"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// identity is whose session it is, and what opens its sealed values. It has no lock; Session
// guards it.
type identity struct {
	m         *Manager
	named     *driver.Record    // the record that the token names, also if it does not open it
	principal *driver.Principal // who is signed in, opened; nil: nobody
	secret    driver.Secret     // binds sealed values: see bind; zero: not chosen yet
	bound     bool              // this is user data, and secret is its owner
	box       *ticket.Sealer    // of secret; nil: not needed so far
}

// forget makes i that of an unknown visitor.
func (i *identity) forget() {
	kept := identity{m: i.m, box: i.box, bound: i.bound}
	if i.bound {
		kept.secret = i.secret
	}
	*i = kept
}

// bind makes i that of user data. Its sealed values are bound to the owner, those of a session to
// the session's secret. So they open also in data that has expired and was created anew.
func (i *identity) bind(owner driver.Hash) { i.secret, i.bound = driver.Secret(owner), true }

// errUserKey stops a session that this Manager would not find by its user: it could neither be
// listed nor revoked.
var errUserKey = errors.New("session: Config.UserKey is not the one with which this session's user signed in: " +
	"put that one back, or end the older sessions with Manager.RevokeAll")

// recognize makes r's secret that of the session, and opens who is signed in. It returns an error
// if the key of a sealed value is missing, or if Config.UserKey has changed. So a missing key is an
// error before a handler runs.
func (i *identity) recognize(r *driver.Record) (err error) {
	if i.principal = nil; !i.bound {
		i.secret = r.Secret // also if it cannot be read: see csrfSecret
	}
	if err := i.m.canOpen(r); err != nil {
		return err
	}
	p := r.Principal
	if p == nil {
		return nil
	}
	if p.Sealed != "" {
		if p, err = i.sealer().OpenPrincipal(p); err != nil {
			return err
		}
	}
	if !i.m.knowsOwner(p.Owner, p.User) {
		return errUserKey
	}
	i.principal = p
	return nil
}

// canOpen returns an error if the key of a sealed value is missing.
func (m *Manager) canOpen(r *driver.Record) error {
	if r.Plain() {
		return nil
	}
	for f := range r.Fields {
		if err := m.keys.CanOpen(r.Fields[f].Key, r.Fields[f].Value); err != nil {
			return err
		}
	}
	return nil
}

// sealer returns what seals and opens the session's values. The secret of a session that is not
// stored yet is chosen here.
func (i *identity) sealer() *ticket.Sealer {
	if secret := i.chosenSecret(); i.box == nil || i.box.Secret() != secret {
		i.box = i.m.keys.Sealer(secret)
	}
	return i.box
}

func (i *identity) chosenSecret() driver.Secret {
	if i.secret == (driver.Secret{}) {
		i.secret = ticket.NewSecret()
	}
	return i.secret
}

// seal returns a value as it will be stored.
func (i *identity) seal(k driver.Key, value []byte) ([]byte, error) {
	if !i.m.cfg.Seal || value == nil {
		return value, nil
	}
	return i.sealer().Seal(k, value)
}

// open returns a stored value in clear.
func (i *identity) open(k driver.Key, value []byte) ([]byte, error) {
	if !ticket.IsSealed(value) {
		return value, nil
	}
	return i.sealer().Open(k, value)
}

// reseal returns operations of this session for the one with another secret.
func (i *identity) reseal(ops []driver.Op, to driver.Secret) ([]driver.Op, error) {
	if !i.m.cfg.Seal || len(ops) == 0 {
		return ops, nil
	}
	reseal := i.m.keys.Resealer(to)
	ops = append([]driver.Op(nil), ops...)
	for n := range ops {
		var err error
		if ops[n].Value, err = reseal.Value(i.sealer(), ops[n].Key, ops[n].Value); err != nil {
			return nil, err
		}
	}
	return ops, nil
}
