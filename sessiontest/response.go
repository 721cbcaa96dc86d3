package sessiontest

import (
	"net/http"
	"net/http/httptest"

	"github.com/coatcheck-go/session"
)

// CookieChange says what a response does with the session's cookie.
type CookieChange string

// The changes of a cookie.
const (
	CookieUnchanged CookieChange = "unchanged" // the response neither sets nor deletes it
	CookieSet       CookieChange = "set"       // the visitor has a new token
	CookieDeleted   CookieChange = "deleted"   // the visitor has no token any more
)

// CookieIn returns what a response does with the session's cookie. m is the Manager of the handler
// that made the response. A response that sets one of the Manager's two cookies and deletes the
// other, as a sign-in does, sets it.
func CookieIn(m *session.Manager, res *http.Response) CookieChange {
	cfg, change := m.Config(), CookieUnchanged
	for _, c := range res.Cookies() {
		switch {
		case !isSessionCookie(cfg, c.Name):
		case c.MaxAge >= 0:
			return CookieSet
		default:
			change = CookieDeleted
		}
	}
	return change
}

// isSessionCookie reports whether a cookie's name is that of a signed-in or of an anonymous
// session.
func isSessionCookie(cfg session.Config, name string) bool {
	return name == cfg.Cookie.Name || name == cfg.Cookie.Name+"-anon"
}

// The header by which browsers say which site caused a request.
const (
	fetchSite = "Sec-Fetch-Site"
	crossSite = "cross-site"
)

// CrossSite makes r a request that a page of another site caused, and returns r. It sets
// Sec-Fetch-Site and Origin, as browsers do.
//
// A Visitor sends its cookies with r. A browser does so only if Cookie.SameSite is None. With the
// default, Lax, it sends the cookie when the visitor follows a link, and with no other request.
func CrossSite(r *http.Request) *http.Request {
	r.Header.Set(fetchSite, crossSite)
	r.Header.Set("Origin", "https://other.example")
	return r
}

// Client returns an http.Client of srv that is this visitor: it shares the cookies of v, and sends
// what [Visitor.Prepare] adds. It works with httptest.NewServer, although the cookie is Secure, and
// with NewTLSServer. Requests to other hosts are sent as they are.
//
// The client follows redirects. To see one, set its CheckRedirect. Each call returns a new client.
func (v *Visitor) Client(srv *httptest.Server) *http.Client {
	v.t.Helper()
	if srv == nil || srv.URL == "" {
		v.t.Fatal("sessiontest: Client needs a server that is started")
	}
	return &http.Client{Transport: &transport{v, srv}}
}

// transport sends the requests of a visitor to a server.
type transport struct {
	visitor *Visitor
	server  *httptest.Server
}

// RoundTrip implements http.RoundTripper.
func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	next := tr.server.Client().Transport
	if r.URL.Scheme+"://"+r.URL.Host != tr.server.URL {
		return next.RoundTrip(r)
	}
	sent := tr.visitor.Prepare(r.Clone(r.Context()))
	res, err := next.RoundTrip(sent)
	if err == nil {
		tr.visitor.Receive(res)
	}
	return res, err
}
