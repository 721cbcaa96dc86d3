package matrix_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/compress"
	"github.com/gofiber/fiber/v3/middleware/logger"
	recoverer "github.com/gofiber/fiber/v3/middleware/recover"

	"github.com/coatcheck-go/session"
	fibersession "github.com/coatcheck-go/session/adapters/fiber"
)

// startFiber serves the app by Fiber, with Fiber's own middleware.
func startFiber(t *testing.T, a *app) string {
	f := fiber.New(fiber.Config{ErrorHandler: fibersession.ErrorHandler(a.managers[0], nil)})
	log := logger.New(logger.Config{LoggerFunc: func(c fiber.Ctx, _ *logger.Data, _ *logger.Config) error {
		a.logged(c.Response().StatusCode())
		return nil
	}})
	use := func(is, at place, mw fiber.Handler) {
		if is == at {
			f.Use(mw)
		}
	}
	use(a.logger, outside, log)
	use(a.recovery, outside, recoverer.New())
	use(a.compression, outside, compress.New())
	for _, m := range a.managers {
		f.Use(fibersession.Middleware(m))
	}
	use(a.compression, inside, compress.New())
	use(a.recovery, inside, recoverer.New())
	use(a.logger, inside, log)
	f.Get("/static", func(c fiber.Ctx) error { return c.SendFile(fileName) })
	f.All("/", fibersession.RouteMiddleware(a.route), func(c fiber.Ctx) error { return a.handle(&fiberExchange{c}) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = f.Listener(l, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() { _ = f.ShutdownWithTimeout(time.Second) })
	return "http://" + l.Addr().String()
}

type fiberExchange struct{ c fiber.Ctx }

func (x *fiberExchange) Context() context.Context           { return x.c.Context() }
func (x *fiberExchange) Session() (*session.Session, error) { return fibersession.From(x.c) }
func (x *fiberExchange) Text(status int, text string) error {
	return x.c.Status(status).SendString(text)
}
func (x *fiberExchange) Empty(status int) error { x.c.Status(status); return nil }
func (x *fiberExchange) Fail(status int) error  { return fiber.NewError(status) }

func (x *fiberExchange) Redirect(to string) error {
	return x.c.Redirect().Status(fiber.StatusSeeOther).To(to)
}

func (x *fiberExchange) Stream(f func(send func(string) error) error) error {
	x.c.Set("Content-Type", "text/event-stream")
	return x.c.SendStreamWriter(func(w *bufio.Writer) {
		_ = f(func(text string) error {
			if _, err := w.WriteString(text); err != nil {
				return err
			}
			return w.Flush()
		})
	})
}

// Upgrade does what the WebSocket packages for fasthttp do.
func (x *fiberExchange) Upgrade(talk func(io.ReadWriter)) error {
	x.c.Status(fiber.StatusSwitchingProtocols)
	x.c.Set("Connection", "Upgrade")
	x.c.Set("Upgrade", "websocket")
	x.c.RequestCtx().Hijack(func(conn net.Conn) { talk(conn) })
	return nil
}
