package session_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// Routes for signed-in users, for users who signed in recently, and for a page that does not need
// the store.
func ExampleRoute() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	page := session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := fmt.Fprintf(w, "for %q\n", s.User())
		return err
	})
	members := session.Route{SignedIn: true}
	recently := session.Route{SignedIn: true, MaxAuthAge: 10 * time.Minute}
	// The page is served even when the store is down.
	catalogue := session.Route{Down: session.DownAnonymous}

	mux := http.NewServeMux()
	mux.Handle("/orders", members.Handler(page))
	mux.Handle("/password", recently.Handler(page))
	mux.Handle("/catalogue", catalogue.Handler(page))

	browse(sessions.Handler(mux), "/orders", "/password", "/catalogue")
	// Output:
	// Please sign in.
	// Please sign in.
	// for ""
}

// A step-up: a route asks for a second factor and OnError redirects to the page that checks it. The
// session keeps its fields.
func ExampleRoute_stepUp() {
	signIn := func(w http.ResponseWriter, r *http.Request, err error) {
		if r.Method != http.MethodGet ||
			!errors.Is(err, session.ErrNotSignedIn) && !errors.Is(err, session.ErrNotFresh) {
			http.Error(w, http.StatusText(session.Status(err)), session.Status(err))
			return
		}
		to := "/login?next=" + url.QueryEscape(r.URL.Path)
		if errors.Is(err, session.ErrNotFresh) {
			to = "/login/again?next=" + url.QueryEscape(r.URL.Path)
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
	sessions, err := session.New(memstore.New(), session.Config{KeepFields: []string{"cart"}, OnError: signIn})
	if err != nil {
		panic(err)
	}

	const cart session.Counters = "cart"
	shop := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		cart.Add(s, "book", 1)
		return nil
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// … check the password …
		if err := s.SignIn(r.Context(), session.Login{User: "ada", Methods: []string{"pwd"}, Level: 1}); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, "the password is right")
		return err
	}
	again := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// … check the password and the one-time password of s.User() …
		// Methods are those of one authentication.
		if err := s.SignIn(r.Context(),
			session.Login{User: s.User(), Methods: []string{"pwd", "otp"}, Level: 2}); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, "both are right")
		return err
	}
	pay := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := fmt.Fprintf(w, "%s pays for %d book, by %q\n", s.User(), cart.Get(s, "book"), s.Info().Methods)
		return err
	}

	secondFactor := session.Route{SignedIn: true, AuthMethods: []string{"pwd", "otp"}, MaxAuthAge: 10 * time.Minute}
	mux := http.NewServeMux()
	mux.Handle("/shop", session.HandlerFunc(shop))
	mux.Handle("/login", session.HandlerFunc(login))
	mux.Handle("/login/again", session.Route{SignedIn: true}.Handler(session.HandlerFunc(again)))
	mux.Handle("/pay", secondFactor.Handler(session.HandlerFunc(pay)))

	browse(sessions.Handler(mux), "/shop", "/pay", "/pay", "/pay")
	// Output:
	// the password is right
	// both are right
	// ada pays for 1 book, by ["pwd" "otp"]
}

// A route that needs a second factor, and the sign-in that meets it.
func Example_secondFactor() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada", Methods: []string{"pwd"}, Level: 1})
	}
	again := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// Check the password and the one-time password, then:
		l := session.Login{User: s.User(), Methods: []string{"pwd", "otp"}, Level: 2}
		return s.SignIn(r.Context(), l)
	}
	pay := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := fmt.Fprintf(w, "%s pays\n", s.User())
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/login", session.HandlerFunc(login))
	mux.Handle("/login/again", session.HandlerFunc(again))
	secondFactor := session.Route{
		SignedIn:    true,
		AuthMethods: []string{"pwd", "otp"},
		MaxAuthAge:  10 * time.Minute,
	}
	mux.Handle("/pay", secondFactor.Handler(session.HandlerFunc(pay)))
	browse(sessions.Handler(mux), "/login", "/pay", "/login/again", "/pay")
	// Output:
	// Please sign in again.
	// ada pays
}

// A stream reads the session again before each event, and checks that the user is still signed in.
func Example_stream() {
	const unread session.Counter = "unread"
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	members := session.Route{SignedIn: true, Passive: true}
	stream := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		w.Header().Set("Content-Type", "text/event-stream")
		out := http.NewResponseController(w)
		for range 3 { // in an application: until r.Context() is done, every few seconds
			if err := s.Reload(r.Context()); err != nil {
				return err
			}
			if err := members.Check(r.Context()); err != nil {
				return err
			}
			unread.Add(s, 1)
			if err := s.Commit(r.Context()); err != nil {
				return err
			}
			fmt.Fprintf(w, "data: %d\n\n", unread.Get(s))
			if err := out.Flush(); err != nil {
				return err
			}
		}
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/login", session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada"})
	}))
	mux.Handle("/stream", members.Handler(session.HandlerFunc(stream)))
	browse(sessions.Handler(mux), "/login", "/stream")
	// Output:
	// data: 1
	//
	// data: 2
	//
	// data: 3
}
