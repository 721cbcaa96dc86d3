package ginsession_test

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

	"github.com/coatcheck-go/session"
	ginsession "github.com/coatcheck-go/session/adapters/gin"
	"github.com/coatcheck-go/session/memstore"
	"github.com/gin-gonic/gin"
)

const views session.Counter = "views"

func Example() {
	gin.DefaultWriter = io.Discard
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}

	r := gin.New()
	r.Use(gin.Logger(), gin.Recovery(), answerErrors, ginsession.Middleware(sessions))
	r.GET("/", ginsession.Handler(func(c *gin.Context, s *session.Session) error {
		views.Add(s, 1)
		c.String(http.StatusOK, "Hello World #%d\n", views.Get(s))
		return nil
	}))
	r.GET("/account", ginsession.RouteMiddleware(session.Route{SignedIn: true}), account)

	browse(r, "/", "/", "/account")
	// Output:
	// 200 Hello World #1
	// 200 Hello World #2
	// 401 {"error":"Please sign in."}
}

func answerErrors(c *gin.Context) {
	c.Next()
	if len(c.Errors) > 0 && !c.Writer.Written() {
		c.JSON(c.Writer.Status(), gin.H{"error": session.Message(c.Errors.Last())})
	}
}

func account(c *gin.Context) {
	s, err := ginsession.From(c)
	if err != nil {
		session.Error(c.Writer, c.Request, err)
		return
	}
	c.String(http.StatusOK, s.User())
}

// The logger of the requests logs the session's handle.
func Example_logger() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	logger := slog.New(session.LogHandler(slog.DiscardHandler))
	r := gin.New()
	r.Use(func(c *gin.Context) {
		c.Next()
		logger.InfoContext(c.Request.Context(), "request", "path", c.FullPath(), "status", c.Writer.Status())
	}, ginsession.Middleware(sessions))
	r.GET("/", account)
	browse(r, "/")
	// Output: 200
}

func Example_stream() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	r := gin.New()
	r.Use(ginsession.Middleware(sessions))
	news := 2
	r.GET("/events", ginsession.Handler(func(c *gin.Context, s *session.Session) (err error) {
		c.Stream(func(io.Writer) bool {
			views.Add(s, 1)
			if err = s.Commit(c.Request.Context()); err != nil {
				return false
			}
			c.SSEvent("views", views.Get(s))
			news--
			return news > 0
		})
		return err
	}))
	browse(r, "/events")
	// Output:
	// 200 event:views
	// data:1
	// event:views
	// data:2
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
