package ticket

import (
	"fmt"

	"github.com/coatcheck-go/session/driver"
)

// infoKey is the name that a sealed info is bound to: that of its first part in the format. No
// field has this name.
const infoKey driver.Key = "@i"

// SealPrincipal returns a copy of p as it is stored: with its info sealed, see driver.EncodeInfo.
// The owner, the time and the level stay in clear, because stores need them and they do not tell
// who the user is.
func (s *Sealer) SealPrincipal(p *driver.Principal) (*driver.Principal, error) {
	text, err := s.Seal(infoKey, driver.EncodeInfo(p))
	if err != nil {
		return nil, err
	}
	out := *p
	out.User, out.Methods, out.Device, out.UserAgent, out.Address = "", nil, "", "", ""
	out.Sealed = string(text)
	return &out, out.Check()
}

// OpenPrincipal returns the plain form of a stored principal. It returns nil for nil, and a plain
// principal as it is. The error wraps ErrSealed if p does not open to a valid principal.
func (s *Sealer) OpenPrincipal(p *driver.Principal) (*driver.Principal, error) {
	if p == nil || p.Sealed == "" {
		return p, nil
	}
	if !IsSealed([]byte(p.Sealed)) {
		return nil, fmt.Errorf("%w: %q is in a form that this program does not know", ErrSealed, infoKey)
	}
	plain, err := s.Open(infoKey, []byte(p.Sealed))
	if err != nil {
		return nil, err
	}
	out := *p
	out.Sealed = ""
	if err := driver.DecodeInfo(plain, &out); err != nil {
		return nil, fmt.Errorf("%w: %q opens, but does not describe a user: %v", ErrSealed, infoKey, err)
	}
	if err := out.Check(); err != nil {
		return nil, fmt.Errorf("%w: %q opens, but is out of bounds: %v", ErrSealed, infoKey, err)
	}
	return &out, nil
}
