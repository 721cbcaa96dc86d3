package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/coatcheck-go/session/driver"
)

// sealedPrincipal is what of a principal is sealed, under the names that it has in clear. The rest stays in clear: stores need the owner and
// the time, and who may do what at a glance is of use to an operator and tells nothing of who it is.
type sealedPrincipal struct {
	User      []byte `json:"user"`
	Device    string `json:"device,omitempty"`
	UserAgent string `json:"agent,omitempty"`
	Address   string `json:"address,omitempty"`
}

// principalKey is what a sealed principal is bound to: the name of the metadata it stands in. No field has it.
const principalKey driver.Key = "@principal"

// sealPrincipal returns p as it is stored.
func (b *sealer) sealPrincipal(p *driver.Principal) (*driver.Principal, error) {
	plain, err := json.Marshal(sealedPrincipal{[]byte(p.User), p.Device, p.UserAgent, p.Address})
	if err != nil {
		return nil, err
	}
	text, err := b.seal(principalKey, plain)
	if err != nil {
		return nil, err
	}
	out := *p
	out.User, out.Device, out.UserAgent, out.Address, out.Sealed = "", "", "", "", string(text)
	return &out, out.Check()
}

// openPrincipal returns p in clear. One that is in clear is returned as it is.
func (b *sealer) openPrincipal(p *driver.Principal) (*driver.Principal, error) {
	if p == nil || p.Sealed == "" {
		return p, nil
	}
	if !isSealed([]byte(p.Sealed)) {
		return nil, fmt.Errorf("%w: %q is in a form that this program does not know", ErrSealed, principalKey)
	}
	plain, err := b.open(principalKey, []byte(p.Sealed))
	if err != nil {
		return nil, err
	}
	var in sealedPrincipal
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, fmt.Errorf("%w: %q opens, and is no principal: %v", ErrSealed, principalKey, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: %q opens, and has more after the principal", ErrSealed, principalKey)
	}
	out := *p
	out.User, out.Device, out.UserAgent, out.Address, out.Sealed = string(in.User), in.Device, in.UserAgent, in.Address, ""
	if err := out.Check(); err != nil {
		return nil, fmt.Errorf("%w: %q opens, and is out of bounds: %v", ErrSealed, principalKey, err)
	}
	return &out, nil
}

// withoutSealed is what can be told of a user's principal that does not open.
func withoutSealed(p *driver.Principal, user string) *driver.Principal {
	out := *p
	out.User, out.Sealed = user, ""
	return &out
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
