package session

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck-go/session/internal/ticket"
)

// credentials are the tokens of one request header.
type credentials struct {
	token     ticket.Token
	found     bool   // token is one: well-formed and, with keys, signed
	inHeader  bool   // it came in Authorization, so a new one has no way back
	hasCookie bool   // our cookie was there, whatever its value
	ambiguous bool   // two different tokens
	refused   string // why another text is no token, if anybody wants to know: see Event.Reason
}

// read takes the tokens from a request header. It keeps nothing of h. What is not a token is as if it were not there: it costs
// no round trip and is never adopted.
func (m *Manager) read(h http.Header) (c credentials) {
	if m.cfg.Bearer {
		for _, v := range h["Authorization"] {
			if scheme, text, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "Bearer") {
				c.inHeader = true
				c.add(m, strings.TrimSpace(text))
			}
		}
	}
	byHeader := c.found
	for _, line := range h["Cookie"] {
		for len(line) > 0 {
			var part string
			part, line, _ = strings.Cut(line, ";")
			name, value, ok := strings.Cut(strings.Trim(part, " \t"), "=") // no other space: to browsers a name that begins with it has no prefix
			if !ok || name != m.cfg.Cookie.Name {
				continue
			}
			c.hasCookie = true
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			c.add(m, value)
		}
	}
	if c.found && !byHeader {
		c.inHeader = false // somebody else's Authorization: the token came in the cookie, which browsers send of themselves
	}
	return c
}

func (c *credentials) add(m *Manager, text string) {
	var buf [80]byte // more than a token has
	if len(text) > len(buf) {
		c.refuse(m, ticket.ErrMalformed)
		return
	}
	t, err := ticket.Parse(append(buf[:0], text...), m.keys)
	switch {
	case err != nil:
		c.refuse(m, err)
	case !c.found:
		c.token, c.found = t, true
	case c.token != t:
		c.ambiguous = true
	}
}

// refuse notes why a text is no token. A forged one outweighs others: somebody made it.
func (c *credentials) refuse(m *Manager, err error) {
	if m.cfg.OnEvent == nil {
		return
	}
	if errors.Is(err, ticket.ErrForged) {
		c.refused = "forged"
	} else if c.refused == "" {
		c.refused = "malformed"
	}
}

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
