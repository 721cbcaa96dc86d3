package session

import (
	"context"
	"errors"
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
	rotatedTo *ticket.Token // what the browser gets; the request goes on with its own token
	confirmed time.Duration // when the store last accepted the new token, since the request began

	used      bool // the response depends on the session
	sent      bool // the response header has left
	closed    bool // the handler has returned: a new cookie would not be sent any more
	issued    bool // the session got a new token
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

// signOut makes the response delete the request's cookies.
func (r *response) signOut(c *credentials) {
	r.rotatedTo = nil
	if r.cookie == setCookie {
		r.cookie = keepCookie
	}
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
	s.clearSite(h, r.cookie == setCookie)
	changesCookie = s.writeCookies(h)
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
func (s *Session) writeCookies(h http.Header) bool {
	r, name := &s.response, s.m.cfg.Cookie.Name
	before := len(h["Set-Cookie"])
	if r.cookie == setCookie {
		t := &s.cred.token
		if r.rotatedTo != nil {
			t = r.rotatedTo
		}
		text := t.Text(s.m.keys)
		if signedIn := s.view.record != nil && s.view.record.Principal != nil; signedIn {
			h.Add("Set-Cookie", s.m.cookie(name, text, s.cookieAge()))
			r.dropCookie, r.dropAnonymous, s.cred.hasCookie = false, s.cred.hasAnonymous, true
		} else {
			h.Add("Set-Cookie", s.m.cookie(name+anonymousSuffix, text, s.cookieAge()))
			r.dropAnonymous, s.cred.hasAnonymous = false, true
		}
	}
	if r.dropCookie {
		h.Add("Set-Cookie", s.m.cookie(name, "", 0))
	}
	if r.dropAnonymous {
		h.Add("Set-Cookie", s.m.cookie(name+anonymousSuffix, "", 0))
	}
	if r.ambiguous {
		s.m.deleteEverywhere(h)
	}
	r.dropCookie, r.dropAnonymous, r.ambiguous = false, false, false
	return len(h["Set-Cookie"]) > before
}

// recheckAfter is how old the store's word on a new token may be when the response header leaves.
const recheckAfter = 50 * time.Millisecond

// recheckCookie drops a new token from the response if another request has superseded it meanwhile,
// or has ended the session: this response would overwrite a newer cookie. The caller holds both
// locks.
func (s *Session) recheckCookie(ctx context.Context) {
	if s.response.cookie != setCookie || s.state != live ||
		time.Since(s.began)-s.response.confirmed < recheckAfter {
		return
	}
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	switch r, now, err := s.load(ctx, s.cred.id, s.cred.verifier); {
	case errors.Is(err, driver.ErrNotFound):
		s.lost(driver.ErrNotFound)
	case errors.Is(err, driver.ErrMoved), err == nil && r.Tokens.Status(s.cred.verifier, now) != driver.Current:
		s.lost(driver.ErrMoved)
	}
}

// cookieAge returns the Max-Age of the session's cookie; 0: it goes with the browser.
func (s *Session) cookieAge() time.Duration {
	r := s.view.record
	persistent := s.m.cfg.Cookie.Persistent
	if r != nil && r.Principal != nil {
		persistent = r.Principal.Persistent
	}
	switch {
	case !persistent:
		return 0
	case r != nil:
		return r.Deadline.Sub(s.view.now)
	}
	return s.m.cfg.Lifetime
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
