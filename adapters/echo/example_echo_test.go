package echosession_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/coatcheck-go/session"
	echosession "github.com/coatcheck-go/session/adapters/echo"
	"github.com/coatcheck-go/session/memstore"
)

const views session.Counter = "views"

func Example() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}

	e := echo.New()
	e.Use(middleware.RequestLogger(), middleware.Recover(), echosession.Middleware(sessions))
	e.GET("/", echosession.Handler(func(c *echo.Context, s *session.Session) error {
		views.Add(s, 1)
		return c.String(http.StatusOK, fmt.Sprintf("Hello World #%d\n", views.Get(s)))
	}))
	e.GET("/account", account, echosession.RouteMiddleware(session.Route{SignedIn: true}))

	e.Logger = slog.New(slog.DiscardHandler)
	browse(e, "/", "/", "/account")
	// Output:
	// 200 Hello World #1
	// 200 Hello World #2
	// 401 {"message":"Please sign in."}
}

func account(c *echo.Context) error {
	s, err := echosession.From(c)
	if err != nil {
		return err
	}
	return c.String(http.StatusOK, s.User())
}

func ExampleErrorHandler() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	e := echo.New()
	e.HTTPErrorHandler = echosession.ErrorHandler(sessions, e.HTTPErrorHandler)
	e.Use(echosession.Middleware(sessions), middleware.RequestLogger())
	e.GET("/", echosession.Handler(func(c *echo.Context, s *session.Session) error {
		return c.String(http.StatusOK, fmt.Sprint(views.Get(s)))
	}))
	e.GET("/fail", func(c *echo.Context) error {
		s, err := echosession.From(c)
		if err != nil {
			return err
		}
		views.Add(s, 1)
		return echo.NewHTTPError(http.StatusTeapot, "I'm a teapot.")
	})

	e.Logger = slog.New(slog.DiscardHandler)
	browse(e, "/fail", "/")
	// Output:
	// 418 {"message":"I'm a teapot."}
	// 200 0
}

// The logger of the requests logs the session's handle.
func Example_requestLogger() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	logger := slog.New(session.LogHandler(slog.DiscardHandler))
	e := echo.New()
	e.Use(middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
		LogURI: true, LogStatus: true, HandleError: true,
		LogValuesFunc: func(c *echo.Context, v middleware.RequestLoggerValues) error {
			logger.InfoContext(c.Request().Context(), "request",
				"uri", v.URI, "status", v.Status, "error", v.Error)
			return nil
		},
	}), echosession.Middleware(sessions))
	e.GET("/", echosession.Handler(func(c *echo.Context, s *session.Session) error {
		return c.String(http.StatusOK, fmt.Sprint(views.Get(s)))
	}))
	browse(e, "/")
	// Output: 200 0
}

func Example_stream() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	e := echo.New()
	e.Use(echosession.Middleware(sessions))
	e.GET("/events", echosession.Handler(func(c *echo.Context, s *session.Session) error {
		w, ctx := c.Response(), c.Request().Context()
		w.Header().Set(echo.HeaderContentType, "text/event-stream")
		for range 2 {
			views.Add(s, 1)
			if err := s.Commit(ctx); err != nil {
				return err
			}
			fmt.Fprintf(w, "data: %d\n\n", views.Get(s))
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
		}
		return nil
	}))
	browse(e, "/events")
	// Output:
	// 200 data: 1
	// data: 2
}

// browse visits pages as one visitor and prints what it gets.
func browse(h http.Handler, paths ...string) {
	server := httptest.NewTLSServer(h)
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cookie := ""
	for _, path := range paths {
		r, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
		if err != nil {
			log.Fatal(err)
		}
		r.Header.Set("Cookie", cookie)
		res, err := server.Client().Do(r)
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if set := res.Header.Get("Set-Cookie"); set != "" {
			cookie, _, _ = strings.Cut(set, ";")
		}
		fmt.Println(res.StatusCode, strings.ReplaceAll(strings.TrimSpace(string(body)), "\n\n", "\n"))
	}
}
