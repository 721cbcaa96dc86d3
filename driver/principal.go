package driver

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Principal is whom a session belongs to, how they proved it, and on what device.
type Principal struct {
	User          string    // the application's id, any bytes, 1 to MaxUser
	Owner         Hash      // keyed hash of User: what stores know a user by
	Authenticated time.Time // by the store's clock
	Methods       []string  // as in RFC 8176: "pwd", "otp", "hwk"
	Level         int       // assurance level reached, as the application counts
	Device        string    // a label for people
	UserAgent     string
	Address       string
	Sealed        string // in place of User, Device, UserAgent and Address: these, encrypted; stores keep it as it is
	Persistent    bool   // the cookie outlives the browser: "remember me"
}

// Bounds of a principal, in bytes. They are part of the format.
const (
	MaxUser      = 256
	MaxMethods   = 16 // methods
	MaxMethod    = 32
	MaxDevice    = 128
	MaxUserAgent = 512
	MaxAddress   = 64
	MaxLevel     = 99 // a number
	MaxSealed    = 8192
)

// ErrPrincipal says that a principal is out of the format's bounds.
var ErrPrincipal = errors.New("bad principal")

// Check reports what is wrong with p. The error wraps [ErrPrincipal].
func (p *Principal) Check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrPrincipal, fmt.Sprintf(format, args...))
	}
	if p.Sealed != "" {
		if p.User != "" || p.Device != "" || p.UserAgent != "" || p.Address != "" {
			return fail("it is sealed, and in clear too")
		}
	} else if p.User == "" || len(p.User) > MaxUser {
		return fail("a user id has 1 to %d bytes, this one has %d", MaxUser, len(p.User))
	}
	if len(p.Methods) > MaxMethods {
		return fail("%d methods, at most %d are kept", len(p.Methods), MaxMethods)
	}
	if p.Level < 0 || p.Level > MaxLevel {
		return fail("level %d is not from 0 to %d", p.Level, MaxLevel)
	}
	type text struct {
		name, text string
		most       int
	}
	texts := []text{{"device", p.Device, MaxDevice}, {"user agent", p.UserAgent, MaxUserAgent}, {"address", p.Address, MaxAddress}, {"sealed text", p.Sealed, MaxSealed}}
	for _, m := range p.Methods {
		texts = append(texts, text{"method", m, MaxMethod})
	}
	for _, t := range texts {
		if len(t.text) > t.most {
			return fail("%s has %d bytes, at most %d are kept", t.name, len(t.text), t.most)
		}
		if !utf8.ValidString(t.text) {
			return fail("%s is not UTF-8: %.40q", t.name, t.text)
		}
	}
	return nil
}
