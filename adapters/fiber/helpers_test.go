package fibersession_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	fibersession "github.com/coatcheck-go/session/adapters/fiber"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
	"github.com/gofiber/fiber/v3"
)

const n session.Counter = "n"

// store is memstore, whose commits can fail.
type store struct {
	*memstore.Store
	down atomic.Bool
}

func (s *store) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if s.down.Load() {
		return nil, errors.New("secret: connection refused")
	}
	return s.Store.Apply(ctx, id, c)
}

// site has a Manager, and one visitor whose session has n = 1.
type site struct {
	t      *testing.T
	store  *store
	m      *session.Manager
	cookie string
}

func newSite(t *testing.T, cfg session.Config) *site {
	t.Helper()
	s := &site{t: t, store: &store{Store: memstore.New()}}
	t.Cleanup(func() { s.store.Close() })
	cfg.Logger = slog.New(slog.DiscardHandler)
	var err error
	if s.m, err = session.New(s.store, cfg); err != nil {
		t.Fatal(err)
	}
	h := s.direct(func(ses *session.Session) { n.Add(ses, 1) })
	s.cookie, _, _ = strings.Cut(h.Get("Set-Cookie"), ";")
	s.direct(func(*session.Session) {})
	return s
}

// direct runs f on the visitor's session, without a server.
func (s *site) direct(f func(*session.Session)) http.Header {
	s.t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", s.cookie)
	ctx, err := s.m.Load(r)
	if err != nil {
		s.t.Fatal(err)
	}
	ses, err := session.From(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	f(ses)
	h, err := s.m.Commit(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}

// count returns the visitor's n.
func (s *site) count() (v int64) {
	s.t.Helper()
	s.store.down.Store(false)
	s.direct(func(ses *session.Session) { v = n.Get(ses) })
	return v
}

// response is what a client got.
type response struct {
	*http.Response
	body string
}

// serve runs an app on a real listener.
func serve(t *testing.T, app *fiber.App) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = app.Listener(l, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() { _ = app.ShutdownWithTimeout(time.Second) })
	return "http://" + l.Addr().String()
}

// do sends a request of the visitor to a real server.
func (s *site) do(app *fiber.App, method, path string, header ...string) response {
	s.t.Helper()
	return s.doBody(serve(s.t, app), method, path, "", header...)
}

func (s *site) doBody(url, method, path, body string, header ...string) response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.cookie != "" {
		r.Header.Set("Cookie", s.cookie)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	res, err := transport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response{res, string(text)}
}

// add changes the session.
func add(t *testing.T, c fiber.Ctx) *session.Session {
	ses, err := fibersession.From(c)
	if err != nil {
		t.Error(err)
		panic(err)
	}
	n.Add(ses, 1)
	return ses
}

func mustEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
