package matrix_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// The fields of the matrix's sessions.
const n session.Counter = "n"

// cell is one row in one framework on one store.
type cell struct {
	t        *testing.T
	store    *faultyStore
	manager  *session.Manager
	app      app
	url      string
	cookies  map[string]string // of the visitor
	statuses chan int          // what the framework's logger recorded
	facts    []string          // the outcome
}

// newCell starts the framework with the row's app.
func newCell(t *testing.T, f framework, store driver.UserStore, r *row) *cell {
	c := &cell{t: t, store: &faultyStore{UserStore: store}, cookies: map[string]string{}, statuses: make(chan int, 10)}
	c.manager = c.mustManager(c.store, r.config)
	c.app = app{
		managers: []*session.Manager{c.manager}, route: r.route, logger: outside, recovery: r.recovery, compression: r.compression,
		logged: func(status int) { c.statuses <- status },
	}
	if r.logger != absent {
		c.app.logger = r.logger
	}
	if r.managers != nil {
		c.app.managers = r.managers(c)
	}
	c.app.handle = func(x exchange) error { return r.handle(c, x) }
	c.url = f.start(t, &c.app)
	return c
}

// mustManager returns a Manager that logs nothing.
func (c *cell) mustManager(store driver.Store, cfg session.Config) *session.Manager {
	c.t.Helper()
	cfg.Logger, cfg.CommitTimeout = slog.New(slog.DiscardHandler), 30*time.Second
	m, err := session.New(store, cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// other returns a second Manager, with its own store and cookie.
func (c *cell) other() *session.Manager {
	s := memstore.New()
	c.t.Cleanup(func() { s.Close() })
	return c.mustManager(s, session.Config{Cookie: session.Cookie{Name: "__Host-other"}})
}

// known makes the visitor one whose session has n = 1.
func (c *cell) known() {
	c.direct(func(_ context.Context, s *session.Session) error { n.Add(s, 1); return nil })
	c.direct(func(_ context.Context, s *session.Session) error { n.Add(s, 0); return nil })
}

// member makes the visitor a known one who is signed in as ada.
func (c *cell) member() {
	c.known()
	c.direct(func(ctx context.Context, s *session.Session) error { return s.SignIn(ctx, session.Login{User: "ada"}) })
}

// direct runs f on the visitor's session, without a server.
func (c *cell) direct(f func(context.Context, *session.Session) error) {
	c.t.Helper()
	r := httptest.NewRequestWithContext(context.Background(), "GET", "/", nil)
	r.Header.Set("Cookie", c.cookieHeader())
	ctx, err := c.manager.Load(r)
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := session.From(ctx)
	if err == nil {
		err = f(ctx, s)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	h, err := c.manager.Commit(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	c.keepCookies(h)
}

func (c *cell) cookieHeader() string {
	var all []string
	for name, value := range c.cookies {
		all = append(all, name+"="+value)
	}
	return strings.Join(all, "; ")
}

// keepCookies does what a browser does with a response. It returns what happened to the session's
// cookie.
func (c *cell) keepCookies(h http.Header) (change string) {
	var lines []string
	for _, set := range (&http.Response{Header: h}).Cookies() {
		if set.MaxAge < 0 || set.Value == "" {
			delete(c.cookies, set.Name)
			lines = append(lines, "cookie deleted")
		} else {
			c.cookies[set.Name] = set.Value
			lines = append(lines, "cookie set")
		}
	}
	return strings.Join(lines, ", ")
}

// request returns a request of the visitor.
func (c *cell) request(method, path string, body io.Reader) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(c.cookies) > 0 {
		r.Header.Set("Cookie", c.cookieHeader())
	}
	return r
}

// client neither follows redirects nor decompresses.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       2 * time.Minute,
}

// send sends a request and notes what the client got, and what the logger recorded.
func (c *cell) send(r *http.Request) {
	c.t.Helper()
	if c.app.compression != absent {
		r.Header.Set("Accept-Encoding", "gzip")
	}
	res, err := client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.note("the body breaks off")
	}
	c.noteResponse(res, body)
	c.noteLogged()
}

// noteResponse notes the status, the type of the content, and the headers that concern sessions.
func (c *cell) noteResponse(res *http.Response, body []byte) {
	c.t.Helper()
	kind := ""
	if res.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err == nil {
			body, err = io.ReadAll(z)
		}
		if err != nil {
			c.note("the compressed body is broken")
		}
		kind = " gzip"
	}
	if bytes.Contains(body, []byte("secret")) {
		c.t.Errorf("the client gets the cause of an error: %q", body)
	}
	c.note(fmt.Sprint(res.StatusCode) + kindOf(res, body) + kind)
	for _, name := range []string{"Location", "Retry-After", "WWW-Authenticate"} {
		if res.Header.Get(name) != "" {
			c.note(name)
		}
	}
	c.note(c.keepCookies(res.Header))
}

// kindOf returns what the body is. An error's body is a text or JSON; that of a success, one of
// those that the handlers write.
func kindOf(res *http.Response, body []byte) string {
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	switch {
	case len(body) == 0:
		return ""
	case res.StatusCode >= 300:
		return map[string]string{"text/plain": " text", "application/json": " JSON", "text/html": " HTML"}[kind]
	}
	return fmt.Sprintf(" %q", body)
}

// noteLogged notes what the framework's logger recorded.
func (c *cell) noteLogged() {
	c.t.Helper()
	select {
	case status := <-c.statuses:
		c.note(fmt.Sprint("log ", status))
	case <-time.After(time.Minute):
		c.t.Error("the framework's logger recorded nothing")
	}
}

// talk asks for a WebSocket and notes what the handler says on it.
func (c *cell) talk() {
	c.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	r := c.request("GET", "/", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if err := r.Write(conn); err != nil {
		c.t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, r)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		said, _ := io.ReadAll(in)
		c.note(fmt.Sprintf("101, then %q", said))
		c.note(c.keepCookies(res.Header))
	} else {
		body, _ := io.ReadAll(res.Body)
		c.noteResponse(res, body)
	}
	c.noteLogged()
}

// note adds a fact to the outcome.
func (c *cell) note(fact string) {
	if fact != "" {
		c.facts = append(c.facts, fact)
	}
}

// noteStored notes what the store has under the visitor's cookie.
func (c *cell) noteStored() {
	c.t.Helper()
	c.store.set(up)
	c.direct(func(_ context.Context, s *session.Session) error {
		switch {
		case s.Info().Handle == "":
			c.note("no session")
		case s.User() != "":
			c.note(fmt.Sprintf("n=%d of %s", n.Get(s), s.User()))
		default:
			c.note(fmt.Sprintf("n=%d", n.Get(s)))
		}
		return nil
	})
}
