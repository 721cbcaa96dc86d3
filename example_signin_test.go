package session_test

import (
	"fmt"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

func ExampleSession_SignIn() {
	sessions, err := session.New(memstore.New(), session.Config{MaxPerUser: 5, KeepFields: []string{"visits"}})
	if err != nil {
		panic(err)
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// … check the password …
		err := s.SignIn(r.Context(), session.Login{User: "ada", Methods: []string{"pwd"}, Level: 1, Device: "Firefox on Linux"})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "Welcome, %s\n", s.User())
		return err
	}
	devices := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		list, err := sessions.Sessions(r.Context(), s.User())
		if err != nil {
			return err
		}
		for _, i := range list {
			fmt.Fprintf(w, "%s, by %q, this one: %v\n", i.Device, i.Methods, i.Handle == s.Info().Handle)
		}
		return nil
	}
	logout := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		if err := s.SignOut(r.Context()); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, "Goodbye")
		return err
	}

	members := session.Route{User: true}
	mux := http.NewServeMux()
	mux.Handle("/login", session.HandlerFunc(login))
	mux.Handle("/devices", members.Handler(session.HandlerFunc(devices)))
	mux.Handle("/logout", session.HandlerFunc(logout))

	browse(sessions.Handler(mux), "/devices", "/login", "/devices", "/logout", "/devices")
	// Output:
	// Please sign in.
	// Welcome, ada
	// Firefox on Linux, by ["pwd"], this one: true
	// Goodbye
	// Please sign in.
}
