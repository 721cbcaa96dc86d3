package main

import (
	"bufio"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coatcheck-go/session"
	fibersession "github.com/coatcheck-go/session/adapters/fiber"
	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v3"
)

// newFiber serves the recipes with Fiber.
func newFiber(sessions *session.Manager) *fiber.App {
	app := fiber.New(fiber.Config{ErrorHandler: fibersession.ErrorHandler(sessions, nil)})
	app.Use(fibersession.Middleware(sessions))
	app.Post("/sign-in", fibersession.Handler(func(c fiber.Ctx, s *session.Session) error {
		return s.SignIn(c.Context(), session.Login{User: c.FormValue("user")})
	}))
	app.Post("/sign-out", fibersession.Handler(func(c fiber.Ctx, s *session.Session) error {
		return s.SignOut(c.Context())
	}))
	app.Post("/click", fibersession.Handler(func(_ fiber.Ctx, s *session.Session) error {
		clicks.Add(s, 1)
		return nil
	}))
	open := fibersession.RouteMiddleware(members)
	app.Get("/events", open, fibersession.Handler(fiberEvents))
	app.Get("/socket", open, fibersession.Handler(fiberSocket))
	return app
}

// heartbeat is the time after which a stream without changes writes a comment.
var heartbeat = 15 * time.Second

// fiberEvents sends the counter as server-sent events. If the client has gone, fasthttp does not
// report it before a write fails. So fiberEvents also writes heartbeats.
func fiberEvents(c fiber.Ctx, s *session.Session) error {
	ctx, conn := c.Context(), c.RequestCtx().Conn() // c is not valid in the stream
	c.Set("Content-Type", "text/event-stream")
	c.Set("Connection", "close") // the next request would inherit the write deadline
	return c.SendStreamWriter(func(w *bufio.Writer) {
		ctx, stop := members.Context(ctx)
		defer stop()
		send := func(text string) error {
			if err := conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			if _, err := w.WriteString(text); err != nil {
				return err
			}
			return w.Flush()
		}
		count := func() string { return fmt.Sprintf("event: clicks\ndata: %d\n\n", clicks.Get(s)) }
		for err := send(count()); err == nil && ctx.Err() == nil; err = send(":\n\n") {
			beat, cancel := context.WithTimeout(ctx, heartbeat)
			for _, err := range s.Watch(beat) {
				if err != nil || send(count()) != nil {
					stop()
				}
			}
			cancel()
		}
		_ = send("event: ended\ndata: 0\n\n")
	})
}

// fiberSocket sends the counter over a WebSocket. Each message from the client is a click. It waits
// for its reader before it returns, because fasthttp then uses the memory of the connection again.
func fiberSocket(c fiber.Ctx, s *session.Session) error {
	ctx := c.Context() // c is not valid on the connection
	var upgrader websocket.FastHTTPUpgrader
	_ = upgrader.Upgrade(c.RequestCtx(), func(conn *websocket.Conn) {
		ctx, stop := members.Context(ctx)
		defer stop()
		var sending sync.Mutex // one goroutine at a time may write
		send := func() error {
			sending.Lock()
			defer sending.Unlock()
			if err := conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			return conn.WriteJSON(clicks.Get(s))
		}
		var reader sync.WaitGroup
		reader.Go(func() {
			defer stop() // the client has gone
			for {
				if _, _, err := conn.ReadMessage(); err != nil {
					return
				}
				if ctx.Err() != nil {
					continue // until the client answers the close frame
				}
				clicks.Add(s, 1)
				if s.Commit(ctx) != nil || send() != nil {
					stop()
				}
			}
		})
		if send() == nil {
			for _, err := range s.Watch(ctx) {
				if err != nil || send() != nil {
					break
				}
			}
		}
		stop()
		why := websocket.FormatCloseMessage(websocket.ClosePolicyViolation, "the session has ended")
		_ = conn.WriteControl(websocket.CloseMessage, why, time.Now().Add(5*time.Second))
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second)) // for the client's answer
		reader.Wait()
	})
	return nil // Upgrade has responded
}
