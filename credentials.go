package session

import (
	"errors"
	"net/http"
	"strings"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// credentials are the tokens of one request header, and what the store knows the session's own
// token by.
type credentials struct {
	token     ticket.Token
	found     bool   // token is one: well-formed and, with keys, signed
	inHeader  bool   // it came in Authorization: a new one cannot go back in a cookie
	hasCookie bool   // the request has our cookie, whatever its value
	ambiguous bool   // the request has two different tokens
	refused   string // why another text is no token, if anybody listens: see Event.Reason

	id       driver.ID   // of token; set by resolve
	verifier driver.Hash // of token; set by resolve
}

// credentialsOf takes the tokens from a request header. It keeps nothing of h. A text that is not a
// token is ignored: it costs no round trip and is never adopted.
func (m *Manager) credentialsOf(h http.Header) (c credentials) {
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
			// Trim no other space: for browsers, a name that begins with one has no "__Host-" prefix.
			name, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
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
		c.inHeader = false // the Authorization header was for another program
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

// refuse notes why a text is no token. "forged" outweighs the others: somebody made it.
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

// resolve computes what the store knows the token by. A request that does not use its session
// does without.
func (c *credentials) resolve() { c.id, c.verifier = c.token.ID(), c.token.VerifierHash() }

// use makes t the session's token.
func (c *credentials) use(t ticket.Token) {
	c.token, c.found = t, true
	c.resolve()
}

// inCookie reports that the browser sends the token by itself, with any request.
func (c *credentials) inCookie() bool { return c.hasCookie && !c.inHeader }
