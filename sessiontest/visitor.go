package sessiontest

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
)

// Visitor is a browser without a network. It keeps the cookies of responses and sends them with its
// requests. Several Visitors are several browsers.
//
// A Visitor visits one site. It compares no hosts, and treats each request as one over HTTPS. So
// Cookie.Domain and the attribute Secure do not hinder a test. Cookie.Path and Max-Age count as in
// a browser. SameSite does not.
//
// A Visitor is safe for concurrent use. Call [Visitor.SignIn], [Visitor.Change] and
// [Visitor.Session] from the goroutine of the test only, because they may end it.
type Visitor struct {
	t      testing.TB
	m      *session.Manager
	cfg    session.Config
	origin url.URL // of the site
	jar    *cookiejar.Jar
	bearer bool // the token goes in Authorization

	mu    sync.Mutex
	token string // of a bearer
	csrf  string // a CSRF token of the session, or ""
}

// NewVisitor returns a visitor without a session. It sends no cookie until a response sets one.
func NewVisitor(t testing.TB, m *session.Manager) *Visitor {
	t.Helper()
	if m == nil {
		t.Fatal("sessiontest: the Manager is nil")
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &Visitor{t: t, m: m, cfg: m.Config(), jar: jar}
	v.origin = url.URL{Scheme: "https", Host: "example.com"}
	if domain := strings.TrimPrefix(v.cfg.Cookie.Domain, "."); domain != "" {
		v.origin.Host = domain
	}
	return v
}

// SignedIn returns a new visitor who is signed in as user. For more than a user, such as a level or
// a device, use [NewVisitor] and [Visitor.SignIn]. If the sign-in fails, the test ends.
func SignedIn(t testing.TB, m *session.Manager, user string) *Visitor {
	t.Helper()
	return NewVisitor(t, m).SignIn(session.Login{User: user})
}

// Bearer returns a new client of an API that is signed in as user. It sends its token in the header
// "Authorization: Bearer" and no session cookie. It needs Config.Bearer. A token that a handler
// hands out later is not noticed.
func Bearer(t testing.TB, m *session.Manager, user string) *Visitor {
	t.Helper()
	v := NewVisitor(t, m)
	v.bearer = true
	return v.SignIn(session.Login{User: user})
}

// SignIn signs the visitor in, through [session.Session.SignIn], and returns v. A session that the
// visitor had is replaced, as by a sign-in of the application. If the sign-in fails, the test ends.
func (v *Visitor) SignIn(l session.Login) *Visitor {
	v.t.Helper()
	err := v.exchange(func(ctx context.Context, s *session.Session) error {
		if err := s.SignIn(ctx, l); err != nil || !v.bearer {
			return err
		}
		token, err := s.BearerToken(ctx)
		v.mu.Lock()
		defer v.mu.Unlock()
		v.token = token
		return err
	})
	if err != nil {
		v.t.Fatalf("sessiontest: signing in %q: %v", l.User, err)
	}
	return v
}

// Change makes a request of the visitor in which f changes the session, and returns v. It sets
// fields before the test's own request, or in place of another tab. If the change is not stored,
// the test ends.
//
// A session that Change begins is anonymous. As any new session, it ends after
// Config.FirstUseTimeout, unless the visitor makes another request.
func (v *Visitor) Change(f func(s *session.Session)) *Visitor {
	v.t.Helper()
	err := v.exchange(func(_ context.Context, s *session.Session) error {
		f(s)
		return nil
	})
	if err != nil {
		v.t.Fatalf("sessiontest: changing the session: %v", err)
	}
	return v
}

// Session returns the session that the visitor's next request would get. Use it to read fields, as
// in visits.Get(visitor.Session()), and who is signed in. Reading it does not extend the idle
// timeout. What is set in it is not stored: use [Visitor.Change].
//
// The session is empty if the visitor has none, or it has ended. If it cannot be read, the test
// ends.
func (v *Visitor) Session() *session.Session {
	v.t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	s, err := v.read(ctx)
	if err != nil {
		v.t.Fatalf("sessiontest: reading the visitor's session: %v", err)
	}
	return s
}

// Do has h serve r as a request of the visitor, and returns the response. It sends what
// [Visitor.Prepare] adds, and keeps the cookies of the response. It does not modify r.
//
// h is the application's handler with its Manager's middleware. For a handler without it, pass
// sessions.Handler(h).
func (v *Visitor) Do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	v.t.Helper()
	sent := v.Prepare(r.Clone(r.Context()))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, sent)
	res := w.Result()
	res.Request = sent
	v.Receive(res)
	return w
}

// Prepare adds to r what the visitor sends, and returns r: the cookies, or a bearer's token. With
// Config.CSRF it also adds a CSRF token to a request with an unsafe method, unless r has the header
// [session.CSRFHeader] already, or comes from another site. So set that header to "" to send a
// request without a token, or to test that a form carries one.
//
// Prepare is for frameworks with a way of their own to serve a request. Give [Visitor.Receive] the
// response. For a net/http handler, use [Visitor.Do].
func (v *Visitor) Prepare(r *http.Request) *http.Request {
	v.t.Helper()
	v.mu.Lock()
	token, csrf := v.token, v.csrf
	v.mu.Unlock()
	if token != "" && r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	_, has := r.Header[http.CanonicalHeaderKey(session.CSRFHeader)]
	if csrf != "" && !has && !isSafe(r.Method) && r.Header.Get(fetchSite) != crossSite {
		r.Header.Set(session.CSRFHeader, csrf)
	}
	v.setCookies(r)
	return r
}

// setCookies makes the visitor's cookies those of r. Other cookies of r stay.
func (v *Visitor) setCookies(r *http.Request) {
	v.t.Helper()
	mine := v.jar.Cookies(v.at(r.URL.Path))
	for _, c := range v.jar.Cookies(v.at(v.cfg.Cookie.Path)) {
		if isSessionCookie(v.cfg, c.Name) && !contains(mine, c.Name) {
			v.t.Logf("sessiontest: the session's cookie is not sent to %s: Config.Cookie.Path is %s", r.URL.Path, v.cfg.Cookie.Path)
			break
		}
	}
	others := r.Cookies()
	r.Header.Del("Cookie")
	for _, c := range others {
		if !isSessionCookie(v.cfg, c.Name) && !contains(mine, c.Name) {
			r.AddCookie(c)
		}
	}
	for _, c := range mine {
		r.AddCookie(c)
	}
}

// Receive keeps the cookies of a response to a request of the visitor. [Visitor.Do] and
// [Visitor.Client] do so themselves.
func (v *Visitor) Receive(res *http.Response) {
	path := "/"
	if res.Request != nil {
		path = res.Request.URL.Path
	}
	v.jar.SetCookies(v.at(path), res.Cookies())
	if !v.cfg.CSRF || CookieIn(v.m, res) == CookieUnchanged {
		return
	}
	ctx, cancel := bounded()
	defer cancel()
	s, err := v.read(ctx)
	if err != nil {
		s = nil
	}
	v.keepCSRF(ctx, s)
}

// read returns the session that the visitor's next request would get.
func (v *Visitor) read(ctx context.Context) (*session.Session, error) {
	ctx, err := v.m.Load(v.request(ctx))
	if err != nil {
		return nil, err
	}
	return session.From(ctx)
}

// exchange makes a request of the visitor in which f uses the session, and keeps the cookies of the
// response.
func (v *Visitor) exchange(f func(ctx context.Context, s *session.Session) error) error {
	ctx, cancel := bounded()
	defer cancel()
	ctx, err := v.m.Load(v.request(ctx))
	var s *session.Session
	if err == nil {
		s, err = session.From(ctx)
	}
	if err == nil {
		err = f(ctx, s)
	}
	header, commitErr := v.m.Commit(ctx)
	v.jar.SetCookies(v.at(v.cfg.Cookie.Path), (&http.Response{Header: header}).Cookies())
	if err == nil {
		err = commitErr
	}
	if err == nil && v.cfg.CSRF {
		v.keepCSRF(ctx, s)
	}
	return err
}

// keepCSRF keeps a CSRF token of the session, or none if s is nil or is not stored. It asks the
// store for nothing.
func (v *Visitor) keepCSRF(ctx context.Context, s *session.Session) {
	token := ""
	if s != nil && s.Info().Handle != "" {
		token, _ = s.CSRFToken(ctx) // without a token, requests fail with ErrCSRF
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.csrf = token
}

// request returns a request of the visitor that the kit makes itself.
func (v *Visitor) request(ctx context.Context) *http.Request {
	u := v.at(v.cfg.Cookie.Path)
	r := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}).WithContext(ctx)
	for _, c := range v.jar.Cookies(u) {
		r.AddCookie(c)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.token != "" {
		r.Header.Set("Authorization", "Bearer "+v.token)
	}
	return r
}

// at returns the URL of a path of the site.
func (v *Visitor) at(path string) *url.URL {
	u := v.origin
	u.Path = path
	return &u
}

func contains(list []*http.Cookie, name string) bool {
	return slices.ContainsFunc(list, func(c *http.Cookie) bool { return c.Name == name })
}

// callTimeout bounds a call that the kit makes itself, so that a store that hangs ends the test
// with a message.
const callTimeout = 10 * time.Second

// bounded returns the context of a call that the kit makes itself. It does not depend on the test's
// context, so a Visitor also works in t.Cleanup.
func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callTimeout)
}

// isSafe reports whether a method is safe, that is, read-only (RFC 9110, 9.2.1).
func isSafe(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}
