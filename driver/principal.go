package driver

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Principal is the user who is signed in, how they authenticated, and on which device.
type Principal struct {
	User          string    // the application's id of the user: any bytes, 1 to MaxUser
	Owner         Hash      // keyed hash of User; stores identify a user by it
	Authenticated time.Time // by the store's clock
	Methods       []string  // as in RFC 8176: "pwd", "otp", "hwk"
	Level         int       // assurance level reached, as the application defines it
	Device        string    // a label for people
	UserAgent     string
	Address       string
	Persistent    bool // the cookie outlives the browser: "remember me"

	// Sealed has User, Methods, Device, UserAgent and Address in encrypted form; these are then
	// empty. Stores keep it unchanged. It begins with "~", which no JSON does.
	Sealed string
}

// Bounds of a principal, in bytes. They are part of the format.
const (
	MaxUser      = 256
	MaxMethods   = 16 // methods
	MaxMethod    = 32
	MaxDevice    = 128
	MaxUserAgent = 512
	MaxAddress   = 64
	MaxLevel     = 99    // a number
	MaxInfo      = 12288 // of EncodeInfo, and of Sealed
)

// ErrPrincipal reports a principal outside the format's bounds.
var ErrPrincipal = errors.New("invalid principal")

// Check returns an error if p is invalid. The error wraps [ErrPrincipal].
func (p *Principal) Check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrPrincipal, fmt.Sprintf(format, args...))
	}
	if p.Sealed != "" {
		if p.User != "" || p.Methods != nil || p.Device != "" || p.UserAgent != "" || p.Address != "" {
			return fail("it has both sealed and clear text")
		}
		if p.Sealed[0] != '~' {
			return fail("the sealed text begins with %q, not with ~", p.Sealed[0])
		}
	} else if p.User == "" || len(p.User) > MaxUser {
		return fail("a user id has 1 to %d bytes, this one has %d", MaxUser, len(p.User))
	}
	if len(p.Methods) > MaxMethods {
		return fail("it has %d methods, at most %d are allowed", len(p.Methods), MaxMethods)
	}
	if p.Level < 0 || p.Level > MaxLevel {
		return fail("level %d is not between 0 and %d", p.Level, MaxLevel)
	}
	type text struct {
		name, text string
		most       int
	}
	texts := []text{
		{"device", p.Device, MaxDevice}, {"user agent", p.UserAgent, MaxUserAgent},
		{"address", p.Address, MaxAddress}, {"sealed text", p.Sealed, MaxInfo},
	}
	for _, m := range p.Methods {
		texts = append(texts, text{"method", m, MaxMethod})
	}
	for _, t := range texts {
		if len(t.text) > t.most {
			return fail("the %s has %d bytes, at most %d are allowed", t.name, len(t.text), t.most)
		}
		if !utf8.ValidString(t.text) {
			return fail("the %s is not UTF-8: %.40q", t.name, t.text)
		}
	}
	return nil
}
