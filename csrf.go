package session

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/coatcheck-go/session/driver"
)

// Where a request carries its CSRF token: in the header, or in a field of the form that it posts.
const (
	CSRFHeader = "X-CSRF-Token"
	CSRFField  = "csrf_token"
)

// CSRFToken returns a token that only this session's pages have: put it into a hidden field named [CSRFField], the first of its form,
// or send it in the header [CSRFHeader]. It is of 48 letters, digits, "-" and "_", another one with each call, so that compression does not
// betray it (BREACH); all of them are good as long as the session is, whatever its token. After sign-in or sign-out a page needs a new one.
//
// It derives from a secret of the session's, so a session that is not stored yet is stored, with what was changed so far. Errors: then as
// [Session.Commit]; [ErrEnded]; [ErrUnavailable].
func (s *Session) CSRFToken(ctx context.Context) (string, error) {
	s.lock()
	defer s.unlock(ctx)
	if s.state == anonymous {
		if s.outcome.err == nil {
			_, _ = s.send(ctx, nil, nil) // its error is the outcome
		}
		if err := s.outcome.report(); err != nil {
			return "", err
		}
	}
	secret, ok := s.csrfSecret()
	if !ok { // the error does not stick: the rest of the page may do without a token
		if s.state == ended || s.state == moved {
			return "", ErrEnded
		}
		return "", ErrUnavailable
	}
	var pad [csrfSize]byte
	rand.Read(pad[:])
	return csrfText(secret, pad), nil
}

// csrfSecret returns what the session's tokens derive from. One that is there and cannot be read for want of a key has it, too: so it can be
// left. The caller holds the lock.
func (s *Session) csrfSecret() (driver.Secret, bool) {
	switch s.state {
	case live, readOnly, degraded, failed:
		return s.identity.secret, s.identity.secret != driver.Secret{}
	}
	return driver.Secret{}, false
}

// CheckCSRF returns [ErrCSRF] unless token is one of [Session.CSRFToken]'s. A session that is not stored has none. With Config.CSRF the
// middleware checks by itself; this is for servers that are not net/http, and for tokens that come in another place.
func (s *Session) CheckCSRF(token string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, ok := s.csrfSecret()
	if !ok {
		return fmt.Errorf("%w: there is no session that could have one", ErrCSRF)
	}
	return checkCSRFText(secret, token)
}

// csrfSize is 144 bits: a token is then a whole number of base64 characters, so it has one text.
const csrfSize = 18

var csrfEncoding = base64.RawURLEncoding

// csrfKey is what the CSRF tokens of a session hide.
func csrfKey(s driver.Secret) []byte {
	key, err := hkdf.Key(sha256.New, s[:], nil, "coatcheck/1 csrf", csrfSize)
	if err != nil {
		panic(err) // for a length that SHA-256 cannot give
	}
	return key
}

// csrfText returns the token with this pad: the pad, and the key hidden by it.
func csrfText(s driver.Secret, pad [csrfSize]byte) string {
	var b [2 * csrfSize]byte
	copy(b[:], pad[:])
	subtle.XORBytes(b[csrfSize:], pad[:], csrfKey(s))
	return csrfEncoding.EncodeToString(b[:])
}

func checkCSRFText(s driver.Secret, token string) error {
	var b [2 * csrfSize]byte
	if len(token) != csrfEncoding.EncodedLen(len(b)) {
		return fmt.Errorf("%w: of %d characters", ErrCSRF, len(token))
	}
	if n, err := csrfEncoding.Decode(b[:], []byte(token)); err != nil || n != len(b) { // the decoder passes over line ends
		return fmt.Errorf("%w: not base64url", ErrCSRF)
	}
	subtle.XORBytes(b[csrfSize:], b[csrfSize:], b[:csrfSize])
	if !hmac.Equal(b[csrfSize:], csrfKey(s)) {
		return fmt.Errorf("%w: of another session, or made up", ErrCSRF)
	}
	return nil
}

// checkCSRF says why a request to the middleware must not go on: it may change something, it carries a session that browsers send of
// themselves, and no page of this session made it.
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
		return nil // the cookie opens nothing: the request is a stranger's, who could as well leave it out
	}
	token := r.Header.Get(CSRFHeader)
	if token == "" {
		token = r.PostForm.Get(CSRFField) // a middleware outside of this one has read the form
	}
	if token == "" {
		var err error
		if token, err = formToken(r); err != nil {
			return fmt.Errorf("%w: reading the form: %v", ErrCSRF, err)
		}
	}
	if token == "" {
		return fmt.Errorf("%w: neither a header %s nor, in the first %d KiB, a form's field %s", ErrCSRF, CSRFHeader, maxFormPeek>>10, CSRFField)
	}
	return s.CheckCSRF(token)
}

// isSafe reports that a method changes nothing (RFC 9110, 9.2.1).
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// patterns matches requests as http.ServeMux does.
type patterns struct{ mux *http.ServeMux }

// isListed is what a request that matches a pattern comes to. One that ServeMux would redirect comes to another.
type isListed struct{}

func (isListed) ServeHTTP(http.ResponseWriter, *http.Request) {}

func newPatterns(list []string) (p patterns, err error) {
	if len(list) == 0 {
		return p, nil
	}
	defer func() {
		if why := recover(); why != nil { // ServeMux has no other way to say it
			err = errors.New(fmt.Sprint(why))
		}
	}()
	p.mux = http.NewServeMux()
	for _, pattern := range list {
		p.mux.Handle(pattern, isListed{})
	}
	return p, nil
}

// match reports that a request matches, whether a router goes by its path as it was sent, as ServeMux does, or decoded: "/hook/..%2Fbuy" is
// below "/hook/" in one form and leads elsewhere in the other.
func (p patterns) match(r *http.Request) bool {
	if p.mux == nil {
		return false
	}
	lists := func(r *http.Request) bool {
		h, _ := p.mux.Handler(r)
		_, listed := h.(isListed)
		return listed
	}
	decoded, u := *r, *r.URL
	u.RawPath, decoded.URL = "", &u
	return lists(r) && (r.URL.RawPath == "" || lists(&decoded))
}

func (m *Manager) exempt(r *http.Request) bool { return m.csrfExempt.match(r) }
