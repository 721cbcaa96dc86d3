package session

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// credentials are the tokens of one request, and what the store knows the session's own token by.
//
// A browser has two cookies: one for signed-in sessions, and one for anonymous sessions. So the
// response that starts an anonymous session never overwrites the cookie of a sign-in, however late
// it arrives. The signed-in cookie comes first; if it opens no session, the anonymous one counts.
type credentials struct {
	token    ticket.Token
	others   []ticket.Token // from the cookies; they are tried in order if token opens no session
	twins    uint8          // how many of others came under the same cookie name as token
	found    bool           // token is one: well-formed and, with keys, signed
	inHeader bool           // token came in Authorization: a new one cannot go back in a cookie

	hasCookie    bool // the request has our cookie for signed-in sessions, whatever its value
	hasAnonymous bool // the request has our cookie for anonymous sessions, whatever its value
	ambiguous    bool // the request has two different tokens, and no rule says which one counts
	malformed    bool // the request has a text that is no token
	forged       bool // the request has a token whose signature is wrong

	id       driver.ID   // of token; set by resolve
	verifier driver.Hash // of token; set by resolve
}

// maxTokens bounds the tokens that one request may have the store look for.
const maxTokens = 4

// anonymousSuffix makes the name of the cookie for anonymous sessions from Cookie.Name.
const anonymousSuffix = "-anon"

// credentialsOf takes the tokens from a request header. It keeps nothing of h. A text that is not a
// token is ignored: it costs no round trip and is never adopted.
func (m *Manager) credentialsOf(h http.Header) (c credentials) {
	if m.cfg.Bearer {
		for _, v := range h["Authorization"] {
			if scheme, text, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "Bearer") {
				c.addHeader(m, strings.TrimSpace(text))
			}
		}
	}
	var anonymous [maxTokens]ticket.Token
	n := 0
	for _, line := range h["Cookie"] {
		for len(line) > 0 {
			var part string
			part, line, _ = strings.Cut(line, ";")
			// Trim no other space: for browsers, a name that begins with one has no "__Host-"
			// prefix.
			name, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
			if !ok {
				continue
			}
			rest, ours := strings.CutPrefix(name, m.cfg.Cookie.Name)
			if !ours || rest != "" && rest != anonymousSuffix {
				continue
			}
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			t, ok := c.parse(m, value)
			switch {
			case rest != "":
				c.hasAnonymous = true
				if ok && n < len(anonymous) {
					anonymous[n], n = t, n+1
				}
			default:
				c.hasCookie = true
				if ok {
					c.addCookie(t)
				}
			}
		}
	}
	c.twins = uint8(len(c.others))
	first := !c.found
	for _, t := range anonymous[:n] {
		c.addCookie(t)
	}
	if first {
		c.twins = uint8(len(c.others))
	}
	return c
}

// addHeader adds the token of an Authorization header, if it is one of ours.
func (c *credentials) addHeader(m *Manager, text string) {
	t, ok := c.parse(m, text)
	switch {
	case !ok:
	case !c.found:
		c.token, c.found, c.inHeader = t, true, true
	case c.token != t:
		c.ambiguous = true
	}
}

// addCookie adds the token of a cookie.
func (c *credentials) addCookie(t ticket.Token) {
	switch {
	case !c.found:
		c.token, c.found = t, true
	case !c.inHeader && c.supersedes(t):
	case c.token == t || slices.Contains(c.others, t):
	case c.inHeader, len(c.others) == maxTokens-1:
		c.ambiguous = true
	default:
		c.others = append(c.others, t)
	}
}

// supersedes drops the older of t and another cookie's token of the same session, and reports
// whether there was one: the older one is left behind under another scope, and nobody stole it.
func (c *credentials) supersedes(t ticket.Token) bool {
	have := &c.token
	for i := -1; ; have = &c.others[i] {
		if have.SameSession(&t) && have.Generation != t.Generation {
			if have.Generation < t.Generation {
				*have = t
			}
			return true
		}
		if i++; i == len(c.others) {
			return false
		}
	}
}

// parse reads a text as a token.
func (c *credentials) parse(m *Manager, text string) (t ticket.Token, ok bool) {
	var buf [80]byte // more than a token has
	err := ticket.ErrMalformed
	if len(text) <= len(buf) {
		t, err = ticket.Parse(append(buf[:0], text...), m.keys)
	}
	c.forged = c.forged || errors.Is(err, ticket.ErrForged)
	c.malformed = c.malformed || err != nil
	return t, err == nil
}

// refusal returns why a text is no token, as Event.Reason, or "". "forged" outweighs the other:
// somebody made it.
func (c *credentials) refusal() string {
	switch {
	case c.forged:
		return "forged"
	case c.malformed:
		return "malformed"
	}
	return ""
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
func (c *credentials) inCookie() bool { return (c.hasCookie || c.hasAnonymous) && !c.inHeader }
