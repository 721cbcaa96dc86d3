package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// A request carries its CSRF token in the header CSRFHeader, or in the form field CSRFField.
const (
	CSRFHeader = "X-CSRF-Token"
	CSRFField  = "csrf_token"
)

// CSRFToken returns a CSRF token of the session. Put it into a hidden field named [CSRFField], the
// first of its form, or send it in the header [CSRFHeader].
//
// The token has 48 letters, digits, "-" and "_". Each call returns a different one, so that
// compression of a page does not reveal the key behind it (BREACH). All of them stay valid until
// the session ends, even when the session's own token changes. After a sign-in or a sign-out, pages
// need new CSRF tokens.
//
// CSRFToken stores a session that is not stored yet, with the changes made so far. It then returns
// the errors of [Session.Commit]. Other errors: [ErrEnded], [ErrUnavailable].
func (s *Session) CSRFToken(ctx context.Context) (string, error) {
	if s.owned != nil {
		return "", errUserData
	}
	s.lock()
	defer s.unlock(ctx)
	if s.state == anonymous {
		if s.outcome.err != nil {
			return "", s.outcome.report()
		}
		if _, err := s.send(ctx, nil); err != nil {
			return "", s.outcome.returned(err)
		}
	}
	// These errors do not stick: the rest of the page may do without a token.
	if s.state == ended || s.state == moved {
		return "", ErrEnded
	}
	secret, ok := s.csrfSecret()
	if !ok {
		return "", ErrUnavailable
	}
	return ticket.CSRFToken(secret), nil
}

// CheckCSRF returns [ErrCSRF] if token is not one that [Session.CSRFToken] returned for this
// session. A session that is not stored has no tokens. With Config.CSRF the middleware checks
// tokens. CheckCSRF is for tokens that a request carries in another place.
func (s *Session) CheckCSRF(token string) error {
	if s.owned != nil {
		return errUserData
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, ok := s.csrfSecret()
	if !ok {
		return fmt.Errorf("%w: there is no session that has one", ErrCSRF)
	}
	if err := ticket.CheckCSRF(secret, token); err != nil {
		return fmt.Errorf("%w: %v", ErrCSRF, err)
	}
	return nil
}

// csrfSecret returns the secret from which the session's CSRF tokens are derived. A session that
// cannot be read because a key is missing has one too, so that its visitor can sign out. The caller
// holds the lock.
func (s *Session) csrfSecret() (driver.Secret, bool) {
	switch s.state {
	case live, readOnly, moved, degraded, failed:
		return s.identity.secret, s.identity.secret != driver.Secret{}
	}
	return driver.Secret{}, false
}

// checkCSRF returns an error if a request needs a CSRF token of its session and has none. Requests
// that need one have an unsafe method, and a cookie that opens a session.
func (x *exchange) checkCSRF(r *http.Request) error {
	s := &x.session
	if !s.m.cfg.CSRF || !s.cred.inCookie() || isSafe(r.Method) || s.m.exempt(r) {
		return nil
	}
	if _, err := From(x); err != nil && !errors.Is(err, ErrSealed) {
		return err
	}
	s.mu.Lock()
	_, opens := s.csrfSecret()
	opens = opens || s.view.record != nil
	s.mu.Unlock()
	if !opens {
		return nil // the cookie opens no session: the client could have left it out
	}
	token := r.Header.Get(CSRFHeader)
	if token == "" {
		token = r.PostForm.Get(CSRFField) // set if an outer middleware has parsed the form
	}
	if token == "" {
		var err error
		if token, err = formToken(r); err != nil {
			return fmt.Errorf("%w: reading the form: %v", ErrCSRF, err)
		}
	}
	if token == "" {
		return fmt.Errorf("%w: neither a header %s nor a form field %s in the first %d KiB",
			ErrCSRF, CSRFHeader, CSRFField, maxFormPeek>>10)
	}
	return s.CheckCSRF(token)
}

// isSafe reports whether a method is safe, that is, read-only (RFC 9110, 9.2.1).
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// patterns matches requests against patterns of http.ServeMux.
type patterns struct{ mux *http.ServeMux }

// isListed is the handler of all patterns. Requests that ServeMux would redirect have another
// handler.
type isListed struct{}

func (isListed) ServeHTTP(http.ResponseWriter, *http.Request) {}

func newPatterns(list []string) (p patterns, err error) {
	if len(list) == 0 {
		return p, nil
	}
	defer func() {
		if reason := recover(); reason != nil { // ServeMux panics on an invalid pattern
			err = errors.New(fmt.Sprint(reason))
		}
	}()
	p.mux = http.NewServeMux()
	for _, pattern := range list {
		p.mux.Handle(pattern, isListed{})
	}
	return p, nil
}

// match reports whether a request matches, both with its path as it was sent and with the decoded
// path. ServeMux routes by the first, other routers by the second. "/hook/..%2Fbuy" is below
// "/hook/" in the first form only.
func (p patterns) match(r *http.Request) bool {
	if p.mux == nil {
		return false
	}
	matches := func(r *http.Request) bool {
		h, _ := p.mux.Handler(r)
		_, listed := h.(isListed)
		return listed
	}
	decoded, u := *r, *r.URL
	u.RawPath, decoded.URL = "", &u
	return matches(r) && (r.URL.RawPath == "" || matches(&decoded))
}

func (m *Manager) exempt(r *http.Request) bool { return m.csrfExempt.match(r) }
