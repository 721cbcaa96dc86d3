package session_test

import (
	"fmt"
	"log"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

const views session.Counter = "views"

func home(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	views.Add(s, 1) // stored before the first byte of the response
	_, err := fmt.Fprintf(w, "Hello World #%d\n", views.Get(s))
	return err
}

func newHandler() http.Handler {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	return sessions.Handler(session.HandlerFunc(home))
}

func main() {
	log.Fatal(http.ListenAndServe("localhost:8080", newHandler()))
}

// The README shows the program above. main compiles here and does not run, because it does not
// return.
var _ = main

func Example_program() {
	browse(newHandler(), "/", "/", "/")
	// Output:
	// Hello World #1
	// Hello World #2
	// Hello World #3
}

func Example_signIn() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// Check the password, then:
		err := s.SignIn(r.Context(), session.Login{User: "ada", Device: "Firefox on Linux"})
		return err
	}
	account := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// Where is the user signed in? Read the devices: for info, err := range devices
		devices := sessions.Sessions(r.Context(), s.User())
		for info, err := range devices {
			if err != nil {
				return err
			}
			fmt.Fprintln(w, s.User(), "on", info.Device)
		}
		return nil
	}
	others := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// Sign out all other devices: after a change of the password, for example.
		n, err := sessions.RevokeUser(r.Context(), s.User(), s.Info().Handle)
		fmt.Fprintln(w, "signed out elsewhere:", n)
		return err
	}
	logout := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// Sign out this device.
		err := s.SignOut(r.Context())
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/login", session.HandlerFunc(login))
	// Only signed-in users reach this page. Other visitors get 401.
	mux.Handle("/account", session.Route{SignedIn: true}.Handler(session.HandlerFunc(account)))
	mux.Handle("/others", session.Route{SignedIn: true}.Handler(session.HandlerFunc(others)))
	mux.Handle("/logout", session.HandlerFunc(logout))

	browse(sessions.Handler(mux), "/login") // a second browser
	browse(sessions.Handler(mux), "/account", "/login", "/account", "/others", "/logout", "/account")
	// Output:
	// Please sign in.
	// ada on Firefox on Linux
	// ada on Firefox on Linux
	// signed out elsewhere: 1
	// Please sign in.
}
