package echosession_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/coatcheck-go/session"
	echosession "github.com/coatcheck-go/session/adapters/echov4"
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
	e.GET("/", echosession.Handler(func(c echo.Context, s *session.Session) error {
		views.Add(s, 1)
		return c.String(http.StatusOK, fmt.Sprintf("Hello World #%d\n", views.Get(s)))
	}))
	e.GET("/account", account, echosession.RouteMiddleware(session.Route{SignedIn: true}))

	browse(e, "/", "/", "/account")
	// Output:
	// 200 Hello World #1
	// 200 Hello World #2
	// 401 {"message":"Please sign in."}
}

func account(c echo.Context) error {
	s, err := echosession.From(c)
	if err != nil {
		return err
	}
	return c.String(http.StatusOK, s.User())
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
