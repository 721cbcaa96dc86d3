package echosession_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/coatcheck-go/session"
	echosession "github.com/coatcheck-go/session/adapters/echov4"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// These tests cover what is Echo's own. The matrix in adapters/matrix covers what all frameworks
// have in common.

const n session.Counter = "n"

// site is an Echo with the session middleware, a store that can be down, and one visitor.
type site struct {
	t       *testing.T
	e       *echo.Echo
	manager *session.Manager
	store   *fragileStore
	cookie  string
}

// fragileStore is a store whose changes fail while it is down.
type fragileStore struct {
	driver.UserStore
	down atomic.Bool
}

func (s *fragileStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if s.down.Load() {
		return nil, errors.New("down")
	}
	return s.UserStore.Apply(ctx, id, c)
}

// newSite returns a site whose visitor has n = 1. The middleware stands before the session's.
func newSite(t *testing.T, cfg session.Config, outside ...echo.MiddlewareFunc) *site {
	t.Helper()
	s := &site{t: t, e: echo.New(), store: &fragileStore{UserStore: memstore.New()}}
	s.e.Logger.SetOutput(io.Discard)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.manager, err = session.New(s.store, cfg); err != nil {
		t.Fatal(err)
	}
	s.e.Use(outside...)
	s.e.Use(echosession.Middleware(s.manager))
	s.e.GET("/one", echosession.Handler(func(c echo.Context, ses *session.Session) error {
		n.Add(ses, 1)
		return c.NoContent(http.StatusNoContent)
	}))
	w := s.get("/one")
	s.cookie, _, _ = strings.Cut(w.Header().Get("Set-Cookie"), ";")
	if w.Code != http.StatusNoContent || s.cookie == "" {
		t.Fatalf("the first visit: %d, %v", w.Code, w.Header())
	}
	return s
}

// request returns a request of the visitor.
func (s *site) request(path string) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), "GET", path, nil)
	if s.cookie != "" {
		r.Header.Set("Cookie", s.cookie)
	}
	return r
}

func (s *site) get(path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.e.ServeHTTP(w, s.request(path))
	return w
}

// mustStore checks what the store has.
func (s *site) mustStore(want int64) {
	s.t.Helper()
	s.store.down.Store(false)
	ctx, err := s.manager.Load(s.request("/"))
	if err != nil {
		s.t.Fatal(err)
	}
	ses, err := session.From(ctx)
	if err != nil || n.Get(ses) != want {
		s.t.Errorf("the store has %d, %v; want %d", n.Get(ses), err, want)
	}
}

func mustEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

const down = `{"message":"The service is not available at the moment. Please try again."}` + "\n"

// TestResponseThatCannotBeStoredIsReplaced: by one answer, whatever Echo was writing.
func TestResponseThatCannotBeStoredIsReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.txt")
	if err := os.WriteFile(file, []byte("page"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(c echo.Context) error{
		"JSON":           func(c echo.Context) error { return c.JSON(200, map[string]string{"a": "b"}) },
		"JSON, and more": func(c echo.Context) error { _ = c.JSON(200, 1); return c.JSON(200, 2) },
		"String":         func(c echo.Context) error { return c.String(200, "text") },
		"Stream":         func(c echo.Context) error { return c.Stream(200, "text/plain", strings.NewReader("text")) },
		"XML":            func(c echo.Context) error { return c.XML(200, "text") },
		"Redirect":       func(c echo.Context) error { return c.Redirect(303, "/") },
		"a file": func(c echo.Context) error {
			http.ServeFile(c.Response(), c.Request(), file)
			return nil
		},
		"NoContent": func(c echo.Context) error { return c.NoContent(204) },
		"an error of its own": func(c echo.Context) error {
			if err := c.String(200, "text"); err == nil {
				t.Error("the handler does not learn that its text was dropped")
			}
			return echo.NewHTTPError(418, "teapot")
		},
	} {
		for _, compressed := range []bool{false, true} {
			status, seen := 0, error(nil)
			s := newSite(t, session.Config{}, func(next echo.HandlerFunc) echo.HandlerFunc {
				return func(c echo.Context) error { seen = next(c); return seen }
			}, middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
				LogStatus:     true,
				LogValuesFunc: func(_ echo.Context, v middleware.RequestLoggerValues) error { status = v.Status; return nil },
			}))
			if compressed {
				s.e.Use(middleware.Gzip())
			}
			s.e.GET("/", echosession.Handler(func(c echo.Context, ses *session.Session) error {
				n.Add(ses, 1)
				s.store.down.Store(true)
				return write(c)
			}))
			w := s.get("/")
			mustEqual(t, name+": status", w.Code, 503)
			mustEqual(t, name+": body", w.Body.String(), down)
			mustEqual(t, name+": logged", status, 503)
			if !errors.Is(seen, session.ErrUnavailable) {
				t.Errorf("%s: the middleware outside sees %v", name, seen)
			}
			mustEqual(t, name+": Retry-After", w.Header().Get("Retry-After"), "1")
			s.mustStore(1)
		}
	}
}

// TestStreamThatCannotBeStoredIsAnsweredAtOnce: the client does not wait for the handler.
func TestStreamThatCannotBeStoredIsAnsweredAtOnce(t *testing.T) {
	s := newSite(t, session.Config{})
	done := make(chan struct{})
	s.e.GET("/", echosession.Handler(func(c echo.Context, ses *session.Session) error {
		n.Add(ses, 1)
		s.store.down.Store(true)
		fmt.Fprint(c.Response(), "event")
		_ = http.NewResponseController(c.Response()).Flush()
		<-done
		return nil
	}))
	server := httptest.NewServer(s.e)
	defer server.Close()
	defer close(done)
	r := s.request(server.URL)
	r.RequestURI = ""
	res, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	if res.StatusCode != 503 || line != down || err != nil {
		t.Errorf("%d, %q, %v", res.StatusCode, line, err)
	}
}

// TestErrorsKeepTheirCause: a middleware outside sees Echo's error and what it wraps.
func TestErrorsKeepTheirCause(t *testing.T) {
	var seen error
	s := newSite(t, session.Config{}, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error { seen = next(c); return seen }
	})
	s.e.GET("/raw", func(c echo.Context) error { return fmt.Errorf("page: %w", session.ErrNotSignedIn) })
	s.e.GET("/route", func(c echo.Context) error { return nil }, echosession.RouteMiddleware(session.Route{SignedIn: true}))
	s.e.GET("/http", echo.WrapHandler(session.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
		return session.ErrNotSignedIn
	})))
	for _, path := range []string{"/raw", "/route", "/http"} {
		w := s.get(path)
		mustEqual(t, path+": body", w.Body.String(), `{"message":"Please sign in."}`+"\n")
		mustEqual(t, path+": status", w.Code, 401)
		var he *echo.HTTPError
		if !errors.As(seen, &he) || he.Code != 401 || !errors.Is(seen, session.ErrNotSignedIn) {
			t.Errorf("%s: the middleware outside sees %v", path, seen)
		}
		if w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", path)
		}
	}
	s.e.GET("/late", func(c echo.Context) error { return errors.Join(c.String(200, "text"), session.ErrEnded) })
	mustEqual(t, "an error after a write", s.get("/late").Body.String(), "text")
	if !errors.Is(seen, session.ErrEnded) {
		t.Errorf("an error after a write: the middleware outside sees %v", seen)
	}
	s.e.GET("/own", func(echo.Context) error { return echo.NewHTTPError(401, "No.") })
	w := s.get("/own")
	mustEqual(t, "an error of the application's own", w.Body.String(), `{"message":"No."}`+"\n")
	mustEqual(t, "its WWW-Authenticate", w.Header().Get("WWW-Authenticate"), "")
	s.e.GET("/status", func(echo.Context) error { return statusError(401) })
	w = s.get("/status")
	mustEqual(t, "an error with StatusCode", w.Code, 401)
	mustEqual(t, "its WWW-Authenticate", w.Header().Get("WWW-Authenticate"), "")
}

type statusError int

func (statusError) Error() string     { return "refused" }
func (e statusError) StatusCode() int { return int(e) }

// TestErrorDiscards: a handler that returns an error changes nothing, and without the session the
// error costs no store.
func TestErrorDiscards(t *testing.T) {
	s := newSite(t, session.Config{})
	s.e.GET("/", func(c echo.Context) error {
		ses, err := echosession.From(c)
		if err != nil {
			return err
		}
		n.Add(ses, 1)
		return errors.New("failed")
	})
	mustEqual(t, "status", s.get("/").Code, 500)
	s.mustStore(1)
	w := s.get("/nowhere")
	mustEqual(t, "status", w.Code, 404)
	mustEqual(t, "Vary", w.Header().Get("Vary"), "")
}

// TestOnErrorOfTheConfigWins: it answers the errors of sessions, and no others.
func TestOnErrorOfTheConfigWins(t *testing.T) {
	status, seen := 0, error(nil)
	s := newSite(t, session.Config{OnError: func(w http.ResponseWriter, r *http.Request, err error) {
		http.Redirect(w, r, "/sorry", http.StatusSeeOther)
	}}, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error { seen = next(c); return seen }
	}, middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
		LogStatus: true, HandleError: true,
		LogValuesFunc: func(_ echo.Context, v middleware.RequestLoggerValues) error { status = v.Status; return nil },
	}))
	s.e.GET("/", func(echo.Context) error { return session.ErrNotSignedIn })
	s.e.GET("/down", func(c echo.Context) error {
		ses, err := echosession.From(c)
		if err != nil {
			return err
		}
		n.Add(ses, 1)
		s.store.down.Store(true)
		return c.JSON(200, "ok")
	})
	for _, path := range []string{"/", "/down"} {
		w := s.get(path)
		mustEqual(t, path+": status", w.Code, 303)
		mustEqual(t, path+": logged", status, 303)
		mustEqual(t, path+": error", seen, nil)
		mustEqual(t, path+": Location", w.Header().Get("Location"), "/sorry")
		if strings.Contains(w.Body.String(), "ok") {
			t.Errorf("%s: the client gets %q", path, w.Body)
		}
	}
	s.store.down.Store(false)
	mustEqual(t, "no such route", s.get("/nowhere").Code, 404)
}

// TestErrorPageMayUseTheSession: the HTTPErrorHandler reads the session, and what it changes is
// stored.
func TestErrorPageMayUseTheSession(t *testing.T) {
	s := newSite(t, session.Config{})
	s.e.HTTPErrorHandler = func(err error, c echo.Context) {
		ses, failed := echosession.From(c)
		if failed != nil {
			t.Error(failed)
			return
		}
		n.Add(ses, 10)
		_ = c.String(session.Status(err), fmt.Sprint(n.Get(ses)))
	}
	s.e.GET("/", echosession.Handler(func(_ echo.Context, ses *session.Session) error {
		n.Add(ses, 100)
		return errors.New("failed")
	}))
	mustEqual(t, "the page", s.get("/").Body.String(), "11")
	s.mustStore(11)
	s.e.GET("/down", func(echo.Context) error { s.store.down.Store(true); return errors.New("failed") })
	mustEqual(t, "status of a page that cannot be stored", s.get("/down").Code, 503)
}

// TestHooksOfTheResponseRunOnce: also if an error replaces the response. They can change the
// session.
func TestHooksOfTheResponseRunOnce(t *testing.T) {
	for _, fails := range []bool{false, true} {
		s := newSite(t, session.Config{})
		before, after := 0, 0
		s.e.GET("/", echosession.Handler(func(c echo.Context, ses *session.Session) error {
			res := c.Response()
			res.Before(func() { before++; n.Add(ses, 10) })
			res.After(func() { after++ })
			n.Add(ses, 1)
			s.store.down.Store(fails)
			return c.String(200, "text")
		}))
		s.get("/")
		mustEqual(t, "Before", before, 1)
		mustEqual(t, "After", after, 1)
		s.mustStore(map[bool]int64{false: 12, true: 1}[fails])
	}
}

// TestLoggerOutsideKnowsTheSession: the request has the session's context after the middleware.
func TestLoggerOutsideKnowsTheSession(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(session.LogHandler(slog.NewTextHandler(&log, nil)))
	s := newSite(t, session.Config{}, middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
		LogStatus: true,
		LogValuesFunc: func(c echo.Context, v middleware.RequestLoggerValues) error {
			logger.InfoContext(c.Request().Context(), "request", "status", v.Status)
			return nil
		},
	}))
	log.Reset()
	s.get("/one")
	if !strings.Contains(log.String(), "status=204 session=") {
		t.Errorf("logged: %s", &log)
	}
}

// TestAllocations: the adapter costs at most 3 allocations more than net/http.
func TestAllocations(t *testing.T) {
	s := newSite(t, session.Config{})
	bare := echo.New()
	handler := func(c echo.Context) error {
		if ses, err := session.From(c.Request().Context()); err != nil || n.Get(ses) != 1 {
			t.Error(err)
		}
		return c.NoContent(204)
	}
	empty := func(c echo.Context) error { return c.NoContent(204) }
	s.e.GET("/", handler)
	bare.GET("/", empty)
	plain := s.manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ses, err := session.From(r.Context()); err != nil || n.Get(ses) != 1 {
			t.Error(err)
		}
		w.WriteHeader(204)
	}))
	none := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	count := func(h http.Handler) float64 {
		r, w := s.request("/"), discarded{http.Header{}}
		least := math.Inf(1) // the race detector makes Echo's pool forget a part
		for range 1000 {
			least = min(least, testing.AllocsPerRun(1, func() { clear(w.header); h.ServeHTTP(w, r) }))
		}
		return least
	}
	adapter, core := count(s.e)-count(bare), count(plain)-count(none)
	t.Logf("the adapter makes %v allocations, net/http %v", adapter, core)
	if adapter > core+3 {
		t.Errorf("the adapter makes %v allocations, net/http %v", adapter, core)
	}
}

// discarded is a response that costs no allocation.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d discarded) WriteHeader(int)             {}
