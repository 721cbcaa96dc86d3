package session_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// An identity provider authenticates, and tells when its own session ends ("back-channel logout"). The application keeps which of its
// sessions belongs to the provider's.
func ExampleManager_Revoke() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	type local struct{ user, handle string }
	of := map[string]local{} // by the provider's session id; in a table of the database that lives as long as the sessions

	callback := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// … verify the provider's answer: who it is, its session id, and when it authenticated them …
		user, sid, began := "ada", "provider-7", time.Now()
		if err := s.SignIn(r.Context(), session.Login{User: user, Methods: []string{"pwd"}, Began: began}); err != nil {
			return err
		}
		of[sid] = local{user, s.Info().Handle}
		_, err := fmt.Fprintf(w, "Welcome, %s\n", s.User())
		return err
	}
	ended := func(w http.ResponseWriter, r *http.Request) { // called by the provider
		// … verify the logout token …
		l := of["provider-7"]
		if err := sessions.Revoke(r.Context(), l.user, l.handle); err != nil {
			session.Error(w, r, err)
			return
		}
		fmt.Fprintln(w, "ended")
	}
	account := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := fmt.Fprintf(w, "%s's account\n", s.User())
		return err
	}

	mux := http.NewServeMux()
	mux.Handle("/callback", session.HandlerFunc(callback))
	mux.HandleFunc("/ended", ended)
	mux.Handle("/account", session.Route{SignedIn: true}.Handler(session.HandlerFunc(account)))

	browse(sessions.Handler(mux), "/callback", "/account", "/ended", "/account")
	// Output:
	// Welcome, ada
	// ada's account
	// ended
	// Please sign in.
}
