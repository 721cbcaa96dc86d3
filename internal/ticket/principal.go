package ticket

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/coatcheck-go/session/driver"
)

// sealedPrincipal holds the parts of a driver.Principal that are sealed, under the names that they
// have in plain. The other parts stay plain. Stores need the owner and the time. The level and the
// methods help operators and do not tell who the user is.
type sealedPrincipal struct {
	User      []byte `json:"user"`
	Device    string `json:"device,omitempty"`
	UserAgent string `json:"agent,omitempty"`
	Address   string `json:"address,omitempty"`
}

// principalKey is the name that a sealed principal is bound to. No field has this name.
const principalKey driver.Key = "@principal"

// SealPrincipal returns a copy of p as it is stored, with the user and the device sealed.
func (s *Sealer) SealPrincipal(p *driver.Principal) (*driver.Principal, error) {
	plain, err := json.Marshal(sealedPrincipal{[]byte(p.User), p.Device, p.UserAgent, p.Address})
	if err != nil {
		return nil, err
	}
	text, err := s.Seal(principalKey, plain)
	if err != nil {
		return nil, err
	}
	out := *p
	out.User, out.Device, out.UserAgent, out.Address, out.Sealed = "", "", "", "", string(text)
	return &out, out.Check()
}

// OpenPrincipal returns the plain form of a stored principal. It returns nil for nil, and a plain
// principal as it is. The error wraps ErrSealed if p does not open to a valid principal.
func (s *Sealer) OpenPrincipal(p *driver.Principal) (*driver.Principal, error) {
	if p == nil || p.Sealed == "" {
		return p, nil
	}
	if !IsSealed([]byte(p.Sealed)) {
		return nil, fmt.Errorf("%w: %q is in a form that this program does not know", ErrSealed, principalKey)
	}
	plain, err := s.Open(principalKey, []byte(p.Sealed))
	if err != nil {
		return nil, err
	}
	var in sealedPrincipal
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, fmt.Errorf("%w: %q opens, but is not a principal: %v", ErrSealed, principalKey, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: %q opens, but has more after the principal", ErrSealed, principalKey)
	}
	out := *p
	out.User, out.Device, out.UserAgent, out.Address = string(in.User), in.Device, in.UserAgent, in.Address
	out.Sealed = ""
	if err := out.Check(); err != nil {
		return nil, fmt.Errorf("%w: %q opens, but is out of bounds: %v", ErrSealed, principalKey, err)
	}
	return &out, nil
}
