package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coatcheck-go/session"
	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

// clicks is a counter that all tabs and devices of a session show.
const clicks session.Counter = "clicks"

// members is the route of the open responses. To open one is not a use of the session.
var members = session.Route{SignedIn: true, Passive: true}

// recipe is a handler that all frameworks on net/http can use.
type recipe = func(w http.ResponseWriter, r *http.Request, s *session.Session) error

// newHandler serves the recipes with net/http.
func newHandler(sessions *session.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /sign-in", session.HandlerFunc(signIn))
	mux.Handle("POST /sign-out", session.HandlerFunc(signOut))
	mux.Handle("POST /click", session.HandlerFunc(click))
	mux.Handle("GET /events", members.Handler(session.HandlerFunc(events)))
	mux.Handle("GET /coder", members.Handler(session.HandlerFunc(coderSocket)))
	mux.Handle("GET /gorilla", members.Handler(session.HandlerFunc(gorillaSocket)))
	return sessions.Handler(mux)
}

func signIn(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
	return s.SignIn(r.Context(), session.Login{User: r.FormValue("user")})
}

func signOut(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
	return s.SignOut(r.Context())
}

func click(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
	clicks.Add(s, 1)
	return nil
}

// events sends the counter as server-sent events.
func events(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	ctx, stop := members.Context(r.Context())
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	send := func(event string, n int64) error {
		if err := out.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "event: %s\ndata: %d\n\n", event, n); err != nil {
			return err
		}
		return out.Flush()
	}
	if err := send("clicks", clicks.Get(s)); err != nil {
		return err
	}
	for _, err := range s.Watch(ctx) {
		if err != nil {
			break
		}
		if err := send("clicks", clicks.Get(s)); err != nil {
			return err
		}
	}
	if r.Context().Err() != nil {
		return nil // the client has gone
	}
	return send("ended", 0)
}

// coderSocket sends the counter over a WebSocket of github.com/coder/websocket. Each message from
// the client is a click.
func coderSocket(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	conn, err := coder.Accept(w, r, nil)
	if err != nil {
		return err
	}
	open := context.WithoutCancel(r.Context())
	ctx, stop := members.Context(open)
	defer stop()
	context.AfterFunc(ctx, func() { _ = conn.Close(coder.StatusPolicyViolation, "the session has ended") })
	var sending sync.Mutex // an older count must not follow a newer one
	send := func() error {
		sending.Lock()
		defer sending.Unlock()
		ctx, cancel := context.WithTimeout(open, 10*time.Second)
		defer cancel()
		return conn.Write(ctx, coder.MessageText, strconv.AppendInt(nil, clicks.Get(s), 10))
	}
	go func() {
		defer stop() // the client has gone, or the click failed
		for {
			if _, _, err := conn.Read(open); err != nil {
				return
			}
			clicks.Add(s, 1)
			if s.Commit(ctx) != nil || send() != nil {
				return
			}
		}
	}()
	if send() != nil {
		return nil
	}
	for _, err := range s.Watch(ctx) {
		if err != nil || send() != nil {
			break
		}
	}
	return nil
}

var upgrader gorilla.Upgrader // refuses requests from other sites

// gorillaSocket does the same over a WebSocket of github.com/gorilla/websocket.
func gorillaSocket(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil // Upgrade has responded
	}
	ctx, stop := members.Context(context.WithoutCancel(r.Context()))
	defer stop()
	context.AfterFunc(ctx, func() {
		why := gorilla.FormatCloseMessage(gorilla.ClosePolicyViolation, "the session has ended")
		_ = conn.WriteControl(gorilla.CloseMessage, why, time.Now().Add(5*time.Second))
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second)) // for the client's answer
	})
	var sending sync.Mutex // one goroutine at a time may write
	send := func() error {
		sending.Lock()
		defer sending.Unlock()
		if err := conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		return conn.WriteJSON(clicks.Get(s))
	}
	go func() {
		defer conn.Close()
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
	}()
	if send() != nil {
		return nil
	}
	for _, err := range s.Watch(ctx) {
		if err != nil || send() != nil {
			break
		}
	}
	return nil
}
