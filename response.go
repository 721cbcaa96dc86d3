package session

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck-go/session/internal/ticket"
)

// response is what the response has to say about the session. It has no lock; Session guards it.
type response struct {
	used      bool          // the response depends on the session
	sent      bool          // the response header has left
	cookie    cookieAction  // what to do with the cookie
	rotatedTo *ticket.Token // what the browser gets; the request goes on with its own token
	stale     bool          // the request's cookie opens no session
	signedOut bool          // Clear-Site-Data is due
}

// cookieAction says what the response does with the cookie.
type cookieAction uint8

const (
	keepCookie   cookieAction = iota
	setCookie                 // to the session's token, or to rotatedTo
	deleteCookie              // after a sign-out
	handedOut                 // none is set: the application gives the client the token itself
)

// signOut makes the response delete the cookie. A cookie that the browser may have got since this
// request began stays: superseded says that there may be one.
func (r *response) signOut(c *credentials, superseded bool) {
	r.rotatedTo = nil
	if r.cookie == setCookie || c.hasCookie && !superseded {
		r.cookie = deleteCookie
	}
	if !superseded && (c.found || c.hasCookie) {
		r.signedOut = true
	}
}

// writeHeader adds to h what the session has to say: the cookie, and how the response may be cached.
func (s *Session) writeHeader(h http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.response
	if !r.used {
		return
	}
	addVary(h, "Cookie")
	if s.m.cfg.Bearer {
		addVary(h, "Authorization")
	}
	s.clearSite(h, r.cookie == setCookie)
	switch r.cookie {
	case setCookie:
		t := &s.cred.token
		if r.rotatedTo != nil {
			t = r.rotatedTo
		}
		h.Add("Set-Cookie", s.m.cookie(t.Text(s.m.keys), s.cookieAge()))
		s.cred.hasCookie = true
	case deleteCookie:
		h.Add("Set-Cookie", s.m.cookie("", 0))
	case handedOut:
		if r.stale { // beside the new token it would make every request ambiguous
			h.Add("Set-Cookie", s.m.cookie("", 0))
		}
	}
	switch {
	case r.cookie != keepCookie:
		h.Set("Cache-Control", "no-store") // a shared cache must not keep the token
		r.cookie = keepCookie
	case h["Cache-Control"] == nil:
		h["Cache-Control"] = []string{"private, no-cache"}
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

// unsend takes back that the header has left: a hijack was refused, or nothing was written, and a
// response is still to come.
func (s *Session) unsend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.response.sent = false
	s.outcome.reported = s.outcome.err != nil
}
