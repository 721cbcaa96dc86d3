package session

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// response is what the response has to say about the session. It has no lock; Session guards it.
type response struct {
	cookie    cookieAction  // what to do with the session's cookie
	newCookie newCookie     // of the new token
	rotatedTo *ticket.Token // what the browser gets; the request goes on with its own token
	confirmed time.Duration // when the store last accepted the new token, since the request began

	used      bool // the response depends on the session
	sent      bool // the response header has left
	closed    bool // the handler has returned: a new cookie would not be sent any more
	issued    bool // the session got a new token
	renewed   bool // by a Renew of this request, and the client may have the token before
	streams   bool // Reload or Commit was called after the header had left
	signedOut bool // Clear-Site-Data is due

	dropCookie    bool // delete the request's cookie for signed-in sessions
	dropAnonymous bool // delete the request's cookie for anonymous sessions
	ambiguous     bool // delete the cookies in all scopes that they may have
}

// cookieAction says what the response does with the cookie.
type cookieAction uint8

const (
	keepCookie cookieAction = iota
	setCookie               // to the session's token, or to rotatedTo
	handedOut               // none is set: the application gives the client the token itself
)

// bringsToken reports whether this response brings the session's token to the client. Then the
// request's own uses of the session do not show that the client has the token. If the request
// streams, the client is there: otherwise the session could end during the stream.
func (r *response) bringsToken() bool { return r.renewed || r.issued && !r.streams }

// newCookie is the cookie of a token, from the moment that the store has the token: a later call
// may fail and leave the request without the session. The token leaves nevertheless, or the visitor
// would have a session that nobody can use.
type newCookie struct {
	signedIn bool          // somebody is signed in
	age      time.Duration // Max-Age; 0: the cookie goes with the browser
}

// cookieFor returns the cookie of a session of p with so much of its lifetime left. p is nil if
// nobody is signed in.
func (m *Manager) cookieFor(p *driver.Principal, left time.Duration) newCookie {
	persistent := m.cfg.Cookie.Persistent
	if p != nil {
		persistent = p.Persistent
	}
	if !persistent {
		left = 0
	}
	return newCookie{p != nil, left}
}

// withhold drops a new token from the response: its session has ended, or has a newer one.
func (r *response) withhold() {
	if r.cookie == setCookie {
		r.cookie = keepCookie
	}
}

// signOut makes the response delete the request's cookies.
func (r *response) signOut(c *credentials) {
	r.rotatedTo = nil
	r.withhold()
	r.drop(c)
	r.signedOut = c.found || c.hasCookie || c.hasAnonymous
}

// drop makes the response delete the request's cookies.
func (r *response) drop(c *credentials) { r.dropCookie, r.dropAnonymous = c.hasCookie, c.hasAnonymous }

// writeHeader adds to h what the session has to say: the cookie, and how the response may be
// cached. It reports whether the header sets or deletes a cookie.
func (s *Session) writeHeader(h http.Header) (changesCookie bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.response
	if !r.used {
		return false
	}
	addVary(h, "Cookie")
	if s.m.cfg.Bearer {
		addVary(h, "Authorization")
	}
	r.clearSite(h, s.m.cfg.ClearSiteData)
	changesCookie = r.writeCookies(h, s.m, &s.cred)
	switch {
	case changesCookie, r.cookie == handedOut:
		h.Set("Cache-Control", "no-store") // a shared cache must not keep the token
		for _, name := range cdnHeaders {
			h.Del(name)
		}
		r.cookie = keepCookie
	case h["Cache-Control"] == nil:
		h["Cache-Control"] = []string{"private, no-cache"}
	}
	return changesCookie
}

// writeCookies adds the Set-Cookie lines. It reports whether there are any.
func (r *response) writeCookies(h http.Header, m *Manager, c *credentials) bool {
	name, before := m.cfg.Cookie.Name, len(h["Set-Cookie"])
	if r.cookie == setCookie {
		t := &c.token
		if r.rotatedTo != nil {
			t = r.rotatedTo
		}
		text, age := t.Text(m.keys), r.newCookie.age
		if r.newCookie.signedIn {
			h.Add("Set-Cookie", m.cookie(name, text, age))
			r.dropCookie, r.dropAnonymous, c.hasCookie = false, c.hasAnonymous, true
		} else {
			h.Add("Set-Cookie", m.cookie(name+anonymousSuffix, text, age))
			r.dropAnonymous, c.hasAnonymous = false, true
		}
	}
	if r.dropCookie {
		h.Add("Set-Cookie", m.cookie(name, "", 0))
	}
	if r.dropAnonymous {
		h.Add("Set-Cookie", m.cookie(name+anonymousSuffix, "", 0))
	}
	if r.ambiguous {
		m.deleteEverywhere(h)
	}
	r.dropCookie, r.dropAnonymous, r.ambiguous = false, false, false
	return len(h["Set-Cookie"]) > before
}

// cdnHeaders outrank Cache-Control in shared caches (RFC 9213, W3C Edge Architecture).
var cdnHeaders = []string{"Cdn-Cache-Control", "Surrogate-Control"}

func addVary(h http.Header, name string) {
	for _, line := range h["Vary"] {
		for v := range strings.SplitSeq(line, ",") {
			if v = strings.TrimSpace(v); v == "*" || strings.EqualFold(v, name) {
				return
			}
		}
	}
	h["Vary"] = append(slices.Clip(h["Vary"]), name)
}

// needsCookie reports whether the response has to carry a cookie for the session's changes to be
// found again.
func (s *Session) needsCookie() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.response.cookie == setCookie ||
		s.state == anonymous && len(s.view.ops) > 0 && s.response.cookie != handedOut
}

// unsend takes back that the header has left: a hijack was refused, and a response is still to
// come.
func (s *Session) unsend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.response.sent = false
	s.outcome.reported = s.outcome.err != nil
}

// leaveUnsent notes that the handler returned without a response. The server or a framework will
// write one, but without a new cookie.
func (s *Session) leaveUnsent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.response.sent, s.response.closed = false, true
}
