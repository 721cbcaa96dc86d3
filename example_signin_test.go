package session_test

import (
	"fmt"
	"net/http"
	"time"

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
		list, err := sessions.Sessions(r.Context(), s.User()) // this one is that of s.Info().Handle
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

	members := session.Route{SignedIn: true}
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

func ExampleManager_RevokeUser() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	password := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// … store the new password; whoever knows the old one is signed out …
		n, err := sessions.RevokeUser(r.Context(), s.User(), s.Info().Handle) // all of the user's, but this one
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "signed out elsewhere: %d\n", n)
		return err
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada"})
	}
	home := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := fmt.Fprintf(w, "%s's home\n", s.User())
		return err
	}

	recently := session.Route{SignedIn: true, MaxAuthAge: 10 * time.Minute} // signed in no longer ago than that
	mux := http.NewServeMux()
	mux.Handle("/login", session.HandlerFunc(login))
	mux.Handle("/password", recently.Handler(session.HandlerFunc(password)))
	mux.Handle("/home", session.Route{SignedIn: true}.Handler(session.HandlerFunc(home)))

	browse(sessions.Handler(mux), "/login")                       // a phone
	browse(sessions.Handler(mux), "/login", "/password", "/home") // and a laptop
	// Output:
	// signed out elsewhere: 1
	// ada's home
}
