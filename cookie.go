package session

import (
	"net/http"
	"time"
)

// Cookie says how the session's cookie is set. The zero Cookie is secure: "__Host-session", Secure, HttpOnly, SameSite=Lax, for this host
// alone.
type Cookie struct {
	// Name is the cookie's name. Default: "__Host-session"; with Insecure "session".
	Name string
	// Path limits the cookie to URLs below it. Default: "/".
	Path string
	// Domain also sends the cookie to subdomains. It needs a Name that does not begin with "__Host-". Default: this host alone.
	Domain string
	// SameSite restricts requests from other sites. With Strict, a request that follows a link from another site carries no cookie. A page
	// that such links lead to must not write to the session: its new cookie would replace the visitor's own. Default: Lax.
	SameSite http.SameSite
	// Partitioned stores one cookie for each top-level site (CHIPS), for pages that other sites embed. It needs SameSite None.
	Partitioned bool
	// Persistent sets Max-Age, so that the cookie outlives the browser. Default: the browser deletes the cookie when it closes.
	Persistent bool
	// Insecure sets a cookie without Secure and without "__Host-". It is for development over plain HTTP only.
	Insecure bool
}

// cookie returns the Set-Cookie for a token; for an empty one the cookie's deletion, with the same attributes.
func (m *Manager) cookie(value string, maxAge time.Duration) string {
	c := http.Cookie{ //nolint:gosec // Secure is left out for Config.Cookie.Insecure alone; checkCookie refuses a SameSite that is unset
		Name:        m.cfg.Cookie.Name,
		Value:       value,
		Path:        m.cfg.Cookie.Path,
		Domain:      m.cfg.Cookie.Domain,
		Secure:      !m.cfg.Cookie.Insecure,
		HttpOnly:    true,
		SameSite:    m.cfg.Cookie.SameSite,
		Partitioned: m.cfg.Cookie.Partitioned,
		MaxAge:      int(maxAge / time.Second),
	}
	if value == "" {
		c.MaxAge = -1
		c.Expires = time.Unix(1, 0)
	}
	return c.String()
}
