package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
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

// A session that comes back from another browser than the one that signed in may have been stolen. What to make of it is the
// application's: here somebody has to sign in again. Browsers update themselves, so compare what an update leaves alone.
func ExampleSession_Info() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	sameBrowser := func(next session.HandlerFunc) session.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			if s.User() != "" && s.Info().UserAgent != r.UserAgent() {
				return session.ErrNotFresh // answered 401; Session.SignOut would end it for whoever it belongs to, too
			}
			return next(w, r, s)
		}
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada", UserAgent: r.UserAgent()})
	}
	account := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := fmt.Fprintf(w, "%s's account\n", s.User())
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/login", session.HandlerFunc(login))
	mux.Handle("/account", session.Route{SignedIn: true}.Handler(sameBrowser(account)))
	handler := sessions.Handler(mux)

	visit := func(path, userAgent, cookie string) *http.Response {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("User-Agent", userAgent)
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Print(w.Body)
		return w.Result()
	}
	cookie := visit("/login", "Firefox", "").Cookies()[0]
	visit("/account", "Firefox", cookie.Name+"="+cookie.Value)
	visit("/account", "curl", cookie.Name+"="+cookie.Value)
	// Output:
	// ada's account
	// Please sign in again.
}
