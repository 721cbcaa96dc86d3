// Package policy has presets for Config.Policy of package session: what a standard or a guideline says of sessions, as a configuration
// that session.New fills in and holds.
//
//	sessions, err := session.New(store, session.Config{Policy: policy.AAL2})
//
// A preset fills in what the application left zero, and refuses, with an error that names the field and the rule, what the source
// forbids. What a source recommends (SHOULD) and a preset holds all the same is said in its comment; who has reasons to deviate writes
// them down and sets the fields without it. What a preset turns on cannot be turned off, as false is zero.
//
// To hold more than one, call them in a function of your own, the strictest first:
//
//	Policy: func(c *session.Config) error {
//		return errors.Join(policy.HighValue(c), policy.AAL2(c))
//	}
//
// A preset is about sessions. That those who sign in reach the level of a preset is said where they do, by Login.Level, and asked for by
// Route.MinLevel. "coatcheck policy" prints what each comes to, and Manager.Config what is in force.
package policy

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck-go/session"
)

const day = 24 * time.Hour

// AAL1 is NIST SP 800-63B-4 at authentication assurance level 1:
//
//   - Lifetime and MaxRemember are at most 30 days (2.1.3, SHOULD; that there is a limit, SHALL);
//   - Cookie.Insecure is refused (5.1 and 5.1.1, SHALL);
//   - CSRF is on: what is posted carries something of the session that is verified (5.1, SHALL), and CSRFExempt is not all there is.
//
// Zero limits are the defaults of session.New, which are stricter. Cookies that outlive the browser are left to the application, though
// they SHOULD NOT (5.1).
func AAL1(c *session.Config) error {
	p := preset{c: c, name: "AAL1", of: nist}
	p.atMost("Lifetime", c.Lifetime, 30*day, "2.1.3")
	p.atMost("MaxRemember", c.MaxRemember, 30*day, "2.1.3")
	return p.session("5.1.1", "5.1")
}

// AAL2 is NIST SP 800-63B-4 at authentication assurance level 2, with what it recommends:
//
//   - IdleTimeout is 1 h, and at most that (2.2.3, SHOULD);
//   - Lifetime is 24 h, and at most that (2.2.3, SHOULD; that there is a limit, SHALL);
//   - MaxRemember and Persistent are refused: a secret does not survive the browser (5.1, SHOULD NOT), and a remembered browser is no
//     authentication (5.1, SHALL NOT);
//   - SameSite None is refused (5.1.1, SHOULD);
//   - Cookie.Insecure is refused, and CSRF is on, as in [AAL1].
func AAL2(c *session.Config) error {
	p := preset{c: c, name: "AAL2", of: nist}
	p.limits(time.Hour, day, "2.2.3")
	p.noRemembering("5.1")
	p.noCrossSite("5.1.1")
	return p.session("5.1.1", "5.1")
}

// AAL3 is NIST SP 800-63B-4 at authentication assurance level 3, with what it recommends:
//
//   - IdleTimeout is 15 min, and at most that (2.3.3, SHOULD);
//   - Lifetime is 12 h, and at most that (2.3.3, SHALL);
//   - the rest is as in [AAL2].
func AAL3(c *session.Config) error {
	p := preset{c: c, name: "AAL3", of: nist}
	p.limits(15*time.Minute, 12*time.Hour, "2.3.3")
	p.noRemembering("5.1")
	p.noCrossSite("5.1.1")
	return p.session("5.1.1", "5.1")
}

// HighValue is what OWASP's Session Management Cheat Sheet says of applications of high value, such as a bank's:
//
//   - IdleTimeout is 5 min, and at most that (Session Expiration: 2 to 5 min);
//   - Lifetime is 8 h, and at most that (Absolute Timeout: 4 to 8 h, an office worker's day);
//   - RotateEvery is 15 min if it is zero and Lifetime is longer (Renewal Timeout, which names no figure);
//   - MaxRemember and Persistent are refused (Expire and Max-Age Attributes: non-persistent cookies);
//   - SameSite is Strict if it is zero, Lax may be chosen, None is refused (SameSite Attribute). With Strict a visitor who follows a link from
//     another site, or comes back from an identity provider, arrives without a session: such a page leads on to one of its own, and neither writes nor has a form, since the
//     cookie of its new session would take the place of the visitor's;
//   - ClearSiteData is "cache", "cookies" and "storage" if it is nil (Logout; ASVS 14.3.1);
//   - Cookie.Insecure is refused (Transport Layer Security);
//   - CSRF is on (OWASP's Cross-Site Request Forgery Prevention Cheat Sheet, Synchronizer Token Pattern).
func HighValue(c *session.Config) error {
	p := preset{c: c, name: "HighValue", of: "OWASP Session Management Cheat Sheet"}
	p.limits(5*time.Minute, 8*time.Hour, "Session Expiration")
	if c.RotateEvery == 0 && c.Lifetime > 15*time.Minute {
		c.RotateEvery = 15 * time.Minute
	}
	p.noRemembering("Expire and Max-Age Attributes")
	if c.Cookie.SameSite == 0 {
		c.Cookie.SameSite = http.SameSiteStrictMode
	}
	p.noCrossSite("SameSite Attribute")
	if c.ClearSiteData == nil {
		c.ClearSiteData = []string{"cache", "cookies", "storage"}
	}
	return p.session("Transport Layer Security", "Synchronizer Token Pattern")
}

const nist = "NIST SP 800-63B-4"

// preset fills in a configuration and keeps the first rule that it breaks.
type preset struct {
	c        *session.Config
	name, of string
	err      error
}

func (p *preset) refuse(field, section, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("session: Config.%s %s: %s (%s, %s)", field, fmt.Sprintf(format, args...), p.name, p.of, section)
	}
}

func (p *preset) atMost(field string, d, most time.Duration, section string) {
	if d > most {
		p.refuse(field, section, "is %v, over %v", d, most)
	}
}

// limits fills in both time limits, and bounds them.
func (p *preset) limits(idle, lifetime time.Duration, section string) {
	if p.c.Lifetime == 0 {
		p.c.Lifetime = lifetime
	}
	if p.c.IdleTimeout == 0 {
		p.c.IdleTimeout = min(idle, p.c.Lifetime)
	}
	p.atMost("Lifetime", p.c.Lifetime, lifetime, section)
	p.atMost("IdleTimeout", p.c.IdleTimeout, idle, section)
}

func (p *preset) noRemembering(section string) {
	if p.c.MaxRemember != 0 {
		p.refuse("MaxRemember", section, "is %v: a sign-in must not outlive Config.Lifetime", p.c.MaxRemember)
	}
	if p.c.Cookie.Persistent {
		p.refuse("Cookie.Persistent", section, "is on: the cookie must not outlive the browser")
	}
}

func (p *preset) noCrossSite(section string) {
	if p.c.Cookie.SameSite == http.SameSiteNoneMode {
		p.refuse("Cookie.SameSite", section, "is None: other sites' requests must not carry the cookie")
	}
}

// session is what all presets ask for. It returns the first rule that was broken.
func (p *preset) session(transport, csrf string) error {
	if p.c.Cookie.Insecure {
		p.refuse("Cookie.Insecure", transport, "is on: the cookie must go over TLS alone")
	}
	p.c.CSRF = true
	for _, pattern := range p.c.CSRFExempt {
		if isEverywhere(pattern) {
			p.refuse("CSRFExempt", csrf, "is %q, which is every route: list those that receive posts from other sites", pattern)
		}
	}
	return p.err
}

// isEverywhere reports that a pattern of http.ServeMux names no part of a path, and so matches all, or all of a length.
func isEverywhere(pattern string) bool {
	_, path, ok := strings.Cut(pattern, "/")
	for part := range strings.SplitSeq(path, "/") {
		if part != "" && !strings.HasPrefix(part, "{") || part == "{$}" {
			return false
		}
	}
	return ok
}
