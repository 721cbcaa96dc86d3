package session

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Cookie configures the session cookie. The zero Cookie is secure: its name begins with "__Host-",
// and it has the attributes Secure, HttpOnly and SameSite=Lax. HttpOnly is always set.
type Cookie struct {
	// Name is the name of the cookie for signed-in sessions. The cookie for anonymous sessions has
	// this name and "-anon", so that an anonymous session never replaces a signed-in one. Give two
	// applications on one host different names: browsers ignore the port. Default:
	// "__Host-session", or "session" with Insecure.
	Name string

	// Path limits the cookie to URLs below this path. Any other than "/" requires a Name that does
	// not begin with "__Host-". Default: "/".
	Path string

	// Domain also sends the cookie to the hosts below this domain. It requires a Name that does not
	// begin with "__Host-". Default: none, only the host that set the cookie gets it.
	Domain string

	// SameSite says which requests from other sites carry the cookie. With Strict, a request that
	// follows a link from another site carries no cookie. So such a link must not lead to a page
	// that writes to the session: the page would start a new session, and its cookie would replace
	// the visitor's. Default: http.SameSiteLaxMode.
	SameSite http.SameSite

	// Partitioned keeps a separate cookie for each top-level site (CHIPS). It is for pages that
	// other sites embed, and requires SameSite None. Default: false.
	Partitioned bool

	// Persistent keeps the cookie when the browser closes, by Max-Age. It requires a
	// Config.Lifetime of at most 400 days. Default: false, the browser deletes the cookie when it
	// closes.
	Persistent bool

	// Insecure leaves out the attribute Secure and the prefix "__Host-". It is only for development
	// over plain HTTP. Default: false.
	Insecure bool
}

// maxCookieAge is the longest Max-Age that browsers respect (RFC 6265bis, 5.5).
const maxCookieAge = 400 * 24 * time.Hour

// maxCookieSize is the size in bytes of the longest cookie that browsers accept.
const maxCookieSize = 4096

// fillCookie sets the defaults of the cookie.
func (c *Config) fillCookie() {
	if c.Cookie.SameSite == 0 {
		c.Cookie.SameSite = http.SameSiteLaxMode
	}
	if c.Cookie.Path == "" {
		c.Cookie.Path = "/"
	}
	if c.Cookie.Name == "" {
		c.Cookie.Name = "__Host-session"
		if c.Cookie.Insecure {
			c.Cookie.Name = "session"
		}
	}
}

// checkCookie refuses a cookie that browsers ignore or that is unsafe. The rules K01 to K16 are
// those of docs/security.md.
func (c *Config) checkCookie() error {
	fail := func(rule, format string, args ...any) error {
		return fmt.Errorf("session: Config.%s (docs/security.md: %s)", fmt.Sprintf(format, args...), rule)
	}
	k := &c.Cookie
	if !isToken(k.Name) {
		return fail("K03, K11", "Cookie.Name %q: a cookie's name has one or more letters, digits and !#$%%&'*+-.^_`|~",
			k.Name)
	}
	prefix := securePrefix(k.Name)
	hostOnly := strings.HasPrefix(strings.ToLower(k.Name), "__host-")
	switch {
	case prefix != "" && k.Insecure:
		return fail("K01, K02, K04", "Cookie.Name %q: browsers ignore a cookie with the prefix %q and without Secure, "+
			"which Cookie.Insecure leaves out", k.Name, prefix)
	case hostOnly && k.Domain != "":
		return fail("K02", "Cookie.Domain %q: browsers ignore a cookie with the prefix \"__Host-\" and a Domain; "+
			"choose a Cookie.Name with \"__Secure-\"", k.Domain)
	case hostOnly && k.Path != "/":
		return fail("K02", "Cookie.Path %q: browsers ignore a cookie with the prefix \"__Host-\" "+
			"unless its path is \"/\"; choose a Cookie.Name with \"__Secure-\"", k.Path)
	case prefix == "" && !k.Insecure:
		return fail("K01, K14", "Cookie.Name %q: without the prefix \"__Host-\" (or \"__Secure-\", for a domain or "+
			"a path) another subdomain or a plain HTTP response can plant the cookie", k.Name)
	case k.Path[0] != '/' || len(k.Path) > 1024 || !isAttribute(k.Path):
		return fail("K05, K11", "Cookie.Path %.40q: a path begins with \"/\", has no control characters and no \";\", "+
			"and has at most 1024 bytes", k.Path)
	case len(k.Domain) > 253 || k.Domain != "" && !isDomain(k.Domain):
		return fail("K05, K11", "Cookie.Domain %.40q is not a domain name", k.Domain)
	case k.SameSite == http.SameSiteDefaultMode:
		return fail("K09", "Cookie.SameSite: with the browsers' default some cross-site posts carry the cookie; "+
			"choose Lax, Strict or None")
	case k.SameSite < http.SameSiteLaxMode || k.SameSite > http.SameSiteNoneMode:
		return fail("K09", "Cookie.SameSite %d is not Lax, Strict or None", k.SameSite)
	case k.SameSite == http.SameSiteNoneMode && k.Insecure:
		return fail("K08", "Cookie.SameSite None: browsers ignore it without Secure, which Cookie.Insecure leaves out")
	case k.Partitioned && k.Insecure:
		return fail("K15", "Cookie.Partitioned: browsers ignore it without Secure, which Cookie.Insecure leaves out")
	case k.Partitioned && k.SameSite != http.SameSiteNoneMode:
		return fail("K15", "Cookie.Partitioned is for pages that other sites embed, "+
			"and these send only cookies with SameSite None")
	case k.Persistent && c.Lifetime > maxCookieAge:
		return fail("K07", "Lifetime %v: browsers limit a persistent cookie's Max-Age to 400 days", c.Lifetime)
	}
	longest := k.Name + anonymousSuffix
	// net/http omits a Domain that is not valid.
	if k.Domain != "" && !strings.Contains(cookieIn(*k, longest, "", 0), "; Domain=") {
		return fail("K05, K11", "Cookie.Domain %.40q is not a domain name", k.Domain)
	}
	const signedToken = 76
	if n := len(cookieIn(*k, longest, strings.Repeat("x", signedToken), c.Lifetime)); n > maxCookieSize {
		return fail("K05", "Cookie.Name: the cookie would have %d bytes, and browsers ignore one of more than %d",
			n, maxCookieSize)
	}
	return nil
}

// securePrefix returns the prefix of a cookie's name that requires Secure, or "". Browsers ignore
// the case of letters here.
func securePrefix(name string) (found string) {
	lower := strings.ToLower(name)
	for _, prefix := range []string{"__secure-", "__host-", "__http-", "__host-http-"} {
		if strings.HasPrefix(lower, prefix) {
			found = name[:len(prefix)]
		}
	}
	return found
}

// isToken reports whether s is a token of RFC 9110, 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isAttribute reports whether s is printable ASCII without ";".
func isAttribute(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == ';' {
			return false
		}
	}
	return true
}

// isDomain reports whether s is a domain name, with or without a leading dot.
func isDomain(s string) bool {
	for label := range strings.SplitSeq(strings.TrimPrefix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isAlphanumeric(c) && c != '-' {
				return false
			}
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
