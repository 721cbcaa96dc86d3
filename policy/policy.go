// Package policy has presets for Config.Policy of package session. A preset turns the rules of a
// standard or guideline into a configuration, which session.New fills in and enforces.
//
//	sessions, err := session.New(store, session.Config{Policy: policy.AAL2})
//
// A preset sets the fields that the application left at zero. It refuses what its source forbids,
// with an error that names the field and the rule.
//
// Some presets also enforce recommendations of their source (SHOULD). Their comments mark these
// rules. If you have reasons to deviate from one, write them down, and set the fields yourself
// instead of using the preset. You cannot turn off what a preset turned on, because false is zero.
//
// To apply several presets, call them in a function of your own, the strictest first:
//
//	Policy: func(c *session.Config) error {
//		return errors.Join(policy.HighValue(c), policy.AAL2(c))
//	}
//
// A preset configures sessions. It does not check how users authenticate: set Login.Level when a
// user signs in, and require it with Route.MinLevel.
//
// "coatcheck policy" prints the configuration of each preset. Manager.Config returns the
// configuration of a running application.
package policy

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck-go/session"
)

const day = 24 * time.Hour

// AAL1 applies NIST SP 800-63B-4 at authentication assurance level 1:
//
//   - Lifetime and MaxRemember are at most 30 days (2.1.3, SHOULD; a limit as such is a SHALL).
//   - Cookie.Insecure is refused (5.1 and 5.1.1, SHALL).
//   - CSRF is on: a posted form carries a token of the session, which is verified (5.1, SHALL).
//     A pattern in CSRFExempt that matches every route is refused.
//
// A limit that you leave at zero gets the default of session.New, which is stricter. AAL1 allows
// cookies that outlive the browser, although NIST says that they SHOULD NOT (5.1).
func AAL1(c *session.Config) error {
	p := preset{c: c, name: "AAL1", source: nist}
	p.atMost("Lifetime", c.Lifetime, 30*day, "2.1.3")
	p.atMost("MaxRemember", c.MaxRemember, 30*day, "2.1.3")
	return p.finish("5.1.1", "5.1")
}

// AAL2 applies NIST SP 800-63B-4 at authentication assurance level 2, recommendations included:
//
//   - IdleTimeout is 1 h if it is zero, and at most 1 h (2.2.3, SHOULD).
//   - Lifetime is 24 h if it is zero, and at most 24 h (2.2.3, SHOULD; a limit as such is a SHALL).
//   - MaxRemember and Cookie.Persistent are refused: the session secret must not outlive the
//     browser (5.1, SHOULD NOT), and a remembered browser does not count as authentication (5.1,
//     SHALL NOT).
//   - SameSite None is refused (5.1.1, SHOULD).
//   - Cookie.Insecure is refused and CSRF is on, as in [AAL1].
func AAL2(c *session.Config) error {
	p := preset{c: c, name: "AAL2", source: nist}
	p.limits(time.Hour, day, "2.2.3")
	p.refuseRemembering("5.1")
	p.refuseCrossSite("5.1.1")
	return p.finish("5.1.1", "5.1")
}

// AAL3 applies NIST SP 800-63B-4 at authentication assurance level 3, recommendations included:
//
//   - IdleTimeout is 15 min if it is zero, and at most 15 min (2.3.3, SHOULD).
//   - Lifetime is 12 h if it is zero, and at most 12 h (2.3.3, SHALL).
//   - The other rules are those of [AAL2].
func AAL3(c *session.Config) error {
	p := preset{c: c, name: "AAL3", source: nist}
	p.limits(15*time.Minute, 12*time.Hour, "2.3.3")
	p.refuseRemembering("5.1")
	p.refuseCrossSite("5.1.1")
	return p.finish("5.1.1", "5.1")
}

// HighValue applies OWASP's Session Management Cheat Sheet for high-value applications, such as a
// bank's:
//
//   - IdleTimeout is 5 min if it is zero, and at most 5 min (Session Expiration: 2 to 5 min).
//   - Lifetime is 8 h if it is zero, and at most 8 h (Absolute Timeout: 4 to 8 h, an office
//     worker's day).
//   - RotateEvery is 15 min if it is zero and Lifetime is longer than that (Renewal Timeout, which
//     names no figure).
//   - MaxRemember and Cookie.Persistent are refused (Expire and Max-Age Attributes: non-persistent
//     cookies).
//   - SameSite is Strict if it is zero. You may choose Lax. None is refused (SameSite Attribute).
//   - ClearSiteData is "cache", "cookies" and "storage" if it is nil (Logout; ASVS 14.3.1).
//   - Cookie.Insecure is refused (Transport Layer Security).
//   - CSRF is on (OWASP's Cross-Site Request Forgery Prevention Cheat Sheet, Synchronizer Token
//     Pattern).
//
// With SameSite Strict, the browser does not send the cookie when a visitor follows a link from
// another site, or returns from an identity provider. Such a request arrives without a session.
// Make these landing pages redirect to a page of your own site. They must not write to the session
// and must not contain a form: the cookie of the new session would replace the visitor's cookie.
func HighValue(c *session.Config) error {
	p := preset{c: c, name: "HighValue", source: "OWASP Session Management Cheat Sheet"}
	p.limits(5*time.Minute, 8*time.Hour, "Session Expiration")
	if c.RotateEvery == 0 && c.Lifetime > 15*time.Minute {
		c.RotateEvery = 15 * time.Minute
	}
	p.refuseRemembering("Expire and Max-Age Attributes")
	if c.Cookie.SameSite == 0 {
		c.Cookie.SameSite = http.SameSiteStrictMode
	}
	p.refuseCrossSite("SameSite Attribute")
	if c.ClearSiteData == nil {
		c.ClearSiteData = []string{"cache", "cookies", "storage"}
	}
	return p.finish("Transport Layer Security", "Synchronizer Token Pattern")
}

const nist = "NIST SP 800-63B-4"

// preset sets fields of a configuration, and keeps the error of the first rule that is broken.
type preset struct {
	c            *session.Config
	name, source string
	err          error
}

func (p *preset) refuse(field, section, format string, args ...any) {
	if p.err == nil {
		problem := fmt.Sprintf(format, args...)
		p.err = fmt.Errorf("session: Config.%s %s: %s (%s, %s)", field, problem, p.name, p.source, section)
	}
}

func (p *preset) atMost(field string, d, limit time.Duration, section string) {
	if d > limit {
		p.refuse(field, section, "is %v, more than %v", d, limit)
	}
}

// limits sets the two time limits where they are zero, and refuses longer ones.
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

func (p *preset) refuseRemembering(section string) {
	if p.c.MaxRemember != 0 {
		p.refuse("MaxRemember", section, "is %v: a sign-in must not outlive Config.Lifetime", p.c.MaxRemember)
	}
	if p.c.Cookie.Persistent {
		p.refuse("Cookie.Persistent", section, "is true: the cookie must not outlive the browser")
	}
}

func (p *preset) refuseCrossSite(section string) {
	if p.c.Cookie.SameSite == http.SameSiteNoneMode {
		p.refuse("Cookie.SameSite", section, "is None: requests from other sites must not carry the cookie")
	}
}

// finish applies the rules that all presets share. It returns the error of the first broken rule.
func (p *preset) finish(transport, csrf string) error {
	if p.c.Cookie.Insecure {
		p.refuse("Cookie.Insecure", transport, "is true: the cookie must be sent over TLS only")
	}
	p.c.CSRF = true
	for _, pattern := range p.c.CSRFExempt {
		if matchesEveryRoute(pattern) {
			p.refuse("CSRFExempt", csrf,
				"is %q, which matches every route: list only the routes that receive posts from other sites", pattern)
		}
	}
	return p.err
}

// matchesEveryRoute reports whether a pattern of http.ServeMux has no fixed part in its path. Such
// a pattern matches every path, or every path with the same number of segments.
func matchesEveryRoute(pattern string) bool {
	_, path, ok := strings.Cut(pattern, "/")
	for part := range strings.SplitSeq(path, "/") {
		if part != "" && !strings.HasPrefix(part, "{") || part == "{$}" {
			return false
		}
	}
	return ok
}
