package fibersession_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/coatcheck-go/session"
	fibersession "github.com/coatcheck-go/session/adapters/fiber"
	"github.com/coatcheck-go/session/memstore"
	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/logger"
	recoverer "github.com/gofiber/fiber/v3/middleware/recover"
)

const views session.Counter = "views"

func Example() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}

	app := fiber.New(fiber.Config{ErrorHandler: fibersession.ErrorHandler(sessions, nil)})
	app.Use(logger.New(logger.Config{Stream: os.Stderr}))
	app.Use(recoverer.New(), fibersession.Middleware(sessions))
	app.Get("/", fibersession.Handler(func(c fiber.Ctx, s *session.Session) error {
		views.Add(s, 1)
		return c.SendString(fmt.Sprintf("Hello World #%d\n", views.Get(s)))
	}))
	app.Get("/account", fibersession.RouteMiddleware(session.Route{SignedIn: true}), account)

	browse(app, "/", "/", "/account")
	// Output:
	// 200 Hello World #1
	// 200 Hello World #2
	// 401 Please sign in.
}

func account(c fiber.Ctx) error {
	s, err := fibersession.From(c)
	if err != nil {
		return err
	}
	return c.SendString(s.User())
}

// An ErrorHandler of the application's own.
func ExampleErrorHandler() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}

	app := fiber.New(fiber.Config{
		ErrorHandler: fibersession.ErrorHandler(sessions, func(c fiber.Ctx, err error) error {
			var known *fiber.Error
			if !errors.As(err, &known) {
				known = fiber.ErrInternalServerError
			}
			return c.Status(known.Code).JSON(fiber.Map{"error": known.Message})
		}),
	})
	app.Use(fibersession.Middleware(sessions))
	app.Get("/account", fibersession.RouteMiddleware(session.Route{SignedIn: true}), account)

	browse(app, "/account")
	// Output: 401 {"error":"Please sign in."}
}

// The logger of the requests logs the session's handle.
func Example_logger() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	requests := slog.New(session.LogHandler(slog.DiscardHandler))
	app := fiber.New()
	app.Use(logger.New(logger.Config{
		LoggerFunc: func(c fiber.Ctx, d *logger.Data, _ *logger.Config) error {
			requests.InfoContext(c.Context(), "request",
				"path", c.Path(), "status", c.Response().StatusCode(), "error", d.ChainErr)
			return nil
		},
	}), fibersession.Middleware(sessions))
	app.Get("/", account)
	browse(app, "/")
	// Output: 200
}

func Example_stream() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	app := fiber.New()
	app.Use(fibersession.Middleware(sessions))
	app.Get("/", fibersession.Handler(func(c fiber.Ctx, s *session.Session) error {
		views.Add(s, 1)
		return c.SendString("a page")
	}))
	app.Get("/events", fibersession.Handler(func(c fiber.Ctx, s *session.Session) error {
		ctx := c.Context()
		c.Set("Content-Type", "text/event-stream")
		return c.SendStreamWriter(func(w *bufio.Writer) {
			for range 2 {
				views.Add(s, 1)
				if s.Commit(ctx) != nil {
					return
				}
				fmt.Fprintf(w, "data: %d\n\n", views.Get(s))
				if w.Flush() != nil {
					return
				}
			}
		})
	}))
	browse(app, "/", "/events")
	// Output:
	// 200 a page
	// 200 data: 2
	// data: 3
}

func Example_webSocket() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	app := fiber.New()
	app.Use(fibersession.Middleware(sessions))
	app.Get("/ws", fibersession.Handler(func(c fiber.Ctx, s *session.Session) error {
		if !websocket.FastHTTPIsWebSocketUpgrade(c.RequestCtx()) {
			return fiber.ErrUpgradeRequired
		}
		views.Add(s, 1)
		ctx := c.Context()
		var upgrader websocket.FastHTTPUpgrader
		return upgrader.Upgrade(c.RequestCtx(), func(conn *websocket.Conn) { talk(ctx, s, conn) })
	}))
	browse(app, "/ws")
	// Output: 426 Upgrade Required
}

func talk(ctx context.Context, s *session.Session, conn *websocket.Conn) {
	for s.Reload(ctx) == nil {
		views.Add(s, 1)
		if s.Commit(ctx) != nil || conn.WriteJSON(views.Get(s)) != nil {
			return
		}
		if _, _, err := conn.ReadMessage(); err != nil {
			return
		}
	}
}

// browse visits pages as one visitor and prints what it gets.
func browse(app *fiber.App, paths ...string) {
	cookie := ""
	for _, path := range paths {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Cookie", cookie)
		res, err := app.Test(r, fiber.TestConfig{}) // without the default limit of a second
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
