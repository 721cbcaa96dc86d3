package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// An audit log of sign-ins, sign-outs and other ends of sessions. OnEvent must not block: put a
// queue in front of a logger that may block.
func ExampleEvent() {
	sessions, err := session.New(memstore.New(), session.Config{
		OnEvent: func(ctx context.Context, e session.Event) {
			// In an application: slog.InfoContext(ctx, "session", "event", e)
			fmt.Printf("event: %s, user %q, instead of another: %v\n", e.Kind, e.User, e.Before != "")
		},
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", session.HandlerFunc(hello))
	mux.Handle("/login", session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada"})
	}))
	mux.Handle("/logout", session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignOut(r.Context())
	}))
	browse(sessions.Handler(mux), "/", "/login", "/logout")
	// Output:
	// event: created, user "", instead of another: false
	// Hello World #0
	// event: signed in, user "ada", instead of another: true
	// event: signed out, user "ada", instead of another: false
}

// A page that shows events of all nodes. A gap says that events are missing.
func ExampleManager_Events() {
	// Several processes need a redisstore with Options.Events.
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events := sessions.Events(ctx) // from now on

	login := session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada"})
	})
	browse(sessions.Handler(login), "/")
	if _, err := sessions.RevokeUser(ctx, "ada"); err != nil {
		panic(err)
	}

	for e, err := range events {
		switch {
		case errors.Is(err, session.ErrGap):
			fmt.Println("some events are missing here")
			continue
		case err != nil:
			panic(err)
		}
		fmt.Println(e.User, e.Kind)
		if e.Kind == session.EventRevoked {
			break
		}
	}
	// Output:
	// ada signed in
	// ada revoked
}

// An audit log in a few lines.
func Example_audit() {
	audit := slog.New(slog.DiscardHandler) // in an application: a logger that does not block
	_, err := session.New(memstore.New(), session.Config{
		OnEvent: func(ctx context.Context, e session.Event) {
			audit.InfoContext(ctx, "session", "event", e)
		},
	})
	fmt.Println(err)
	// Output: <nil>
}
