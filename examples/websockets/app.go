package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/coatcheck-go/session"
	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

// clicks is a counter that all tabs and devices of a session show.
const clicks session.Counter = "clicks"

// members is the route of the open responses. To open one is not a use of the session.
var members = session.Route{SignedIn: true, Passive: true}

// newHandler serves the counter over server-sent events and over WebSockets of two libraries.
func newHandler(sessions *session.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /sign-in", session.HandlerFunc(signIn))
	mux.Handle("POST /click", session.HandlerFunc(click))
	mux.Handle("GET /events", members.Handler(session.HandlerFunc(events)))
	mux.Handle("GET /coder", members.Handler(session.HandlerFunc(coderSocket)))
	mux.Handle("GET /gorilla", members.Handler(session.HandlerFunc(gorillaSocket)))
	return sessions.Handler(mux)
}

func signIn(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
	return s.SignIn(r.Context(), session.Login{User: r.FormValue("user")})
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
	send := func() error {
		return conn.Write(ctx, coder.MessageText, strconv.AppendInt(nil, clicks.Get(s), 10))
	}
	go func() {
		defer stop() // the client has gone, or the click failed
		for {
			if _, _, err := conn.Read(open); err != nil {
				return
			}
			clicks.Add(s, 1)
			if err := s.Commit(ctx); err != nil {
				return
			}
			if err := send(); err != nil {
				return
			}
		}
	}()
	if err := send(); err != nil {
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

// gorillaSocket sends the counter over a WebSocket of github.com/gorilla/websocket.
func gorillaSocket(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil // Upgrade has responded
	}
	ctx, stop := members.Context(context.WithoutCancel(r.Context()))
	defer stop()
	context.AfterFunc(ctx, func() {
		why := gorilla.FormatCloseMessage(gorilla.ClosePolicyViolation, "the session has ended")
		_ = conn.WriteControl(gorilla.CloseMessage, why, time.Now().Add(time.Second))
		_ = conn.Close()
	})
	go func() {
		defer stop() // the client has gone
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	}()
	send := func() error {
		if err := conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		return conn.WriteJSON(clicks.Get(s))
	}
	if err := send(); err != nil {
		return nil
	}
	for _, err := range s.Watch(ctx) {
		if err != nil || send() != nil {
			break
		}
	}
	return nil
}
