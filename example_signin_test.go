package session_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// A sign-in, a list of the user's sessions, and a sign-out.
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
		var list []session.Info
		for info, err := range sessions.Sessions(r.Context(), s.User()) {
			if err != nil {
				return err
			}
			list = append(list, info)
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

// A change of the password signs out every other session of the user.
func ExampleManager_RevokeUser() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	password := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// … store the new password, then sign out all other sessions …
		n, err := sessions.RevokeUser(r.Context(), s.User(), s.Info().Handle) // all except this one
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

	recently := session.Route{SignedIn: true, MaxAuthAge: 10 * time.Minute} // a recent sign-in
	mux := http.NewServeMux()
	mux.Handle("/login", session.HandlerFunc(login))
	mux.Handle("/password", recently.Handler(session.HandlerFunc(password)))
	mux.Handle("/home", session.Route{SignedIn: true}.Handler(session.HandlerFunc(home)))

	browse(sessions.Handler(mux), "/login")                       // on a phone
	browse(sessions.Handler(mux), "/login", "/password", "/home") // on a laptop
	// Output:
	// signed out elsewhere: 1
	// ada's home
}

// An identity provider authenticates users, and calls the application when its own session ends
// ("back-channel logout"). The application stores which of its sessions belongs to which session of
// the provider.
func ExampleManager_Revoke() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	type local struct{ user, handle string }
	byProvider := map[string]local{} // the key is the provider's session id; use a database table

	callback := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// … verify the provider's answer: user, session id and time of authentication …
		user, sid, began := "ada", "provider-7", time.Now()
		if err := s.SignIn(r.Context(), session.Login{User: user, Methods: []string{"pwd"}, Began: began}); err != nil {
			return err
		}
		byProvider[sid] = local{user, s.Info().Handle}
		_, err := fmt.Fprintf(w, "Welcome, %s\n", s.User())
		return err
	}
	ended := func(w http.ResponseWriter, r *http.Request) { // the provider calls it
		// … verify the logout token …
		l := byProvider["provider-7"]
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

// An identity provider may have authenticated the user long before it sends them back. The ID token
// of OpenID Connect says when, in auth_time. A page that needs a recent authentication sends the
// user to the provider again.
func ExampleLogin_authenticated() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	callback := func(authTime time.Time) session.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			// … verify the ID token; authTime is time.Unix(claims.AuthTime, 0) …
			left := time.Now() // store the time at which the visitor left for the provider
			l := session.Login{User: "ada", Began: left, Authenticated: authTime}
			if err := s.SignIn(r.Context(), l); err != nil {
				return err
			}
			_, err := fmt.Fprintf(w, "Welcome, %s\n", s.User())
			return err
		}
	}
	transfer := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := fmt.Fprintln(w, "transferred")
		return err
	}

	recently := session.Route{SignedIn: true, MaxAuthAge: 10 * time.Minute}
	mux := http.NewServeMux()
	mux.Handle("/callback", callback(time.Now().Add(-3*time.Hour)))
	mux.Handle("/callback/max_age", callback(time.Now())) // the provider was asked with max_age=0
	mux.Handle("/transfer", recently.Handler(session.HandlerFunc(transfer)))

	browse(sessions.Handler(mux), "/callback", "/transfer", "/callback/max_age", "/transfer")
	// Output:
	// Welcome, ada
	// Please sign in again.
	// Welcome, ada
	// transferred
}

// A session that is used from another browser than the one that signed in may have been stolen. The
// application decides what to do: here the user must sign in again. Browsers update themselves, so
// compare only what an update does not change.
func ExampleSession_Info() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	sameBrowser := func(next session.HandlerFunc) session.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			if s.User() != "" && s.Info().UserAgent != r.UserAgent() {
				return session.ErrNotFresh // 401; SignOut would end the session for both
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

// A sign-in that lasts 30 days if the user asks for it.
func Example_remember() {
	sessions, err := session.New(memstore.New(), session.Config{MaxRemember: 30 * 24 * time.Hour})
	if err != nil {
		panic(err)
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		l := session.Login{User: "ada"}
		if r.FormValue("remember") != "" {
			l.Remember = 30 * 24 * time.Hour
		}
		if err := s.SignIn(r.Context(), l); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, s.Info().Deadline.Sub(s.Info().Created))
		return err
	}
	browse(sessions.Handler(session.HandlerFunc(login)), "/login", "/login?remember=yes")
	// Output:
	// 24h0m0s
	// 720h0m0s
}

// A client of an API gets its token in the response, and no cookie.
func Example_bearer() {
	sessions, err := session.New(memstore.New(), session.Config{Bearer: true})
	if err != nil {
		panic(err)
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// Check the password of the API's client, then:
		if err := s.SignIn(r.Context(), session.Login{User: "ada"}); err != nil {
			return err
		}
		token, err := s.BearerToken(r.Context())
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, len(token), "characters")
		return err
	}
	browse(sessions.Handler(session.HandlerFunc(login)), "/login")
	// Output: 52 characters
}

// A cart with bounds: at most 9 of an article, and at most 2 articles.
func ExampleCounters_AddWithin() {
	const quantities session.Counters = "cart.quantities"

	show([]string{"/add?article=tea", "/add?article=cup", "/add?article=pot"}, map[string]session.HandlerFunc{
		"/add": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			quantity, err := quantities.AddWithin(r.Context(), s, r.FormValue("article"), 1, 0, 9, 2)
			if errors.Is(err, session.ErrLimit) {
				_, err = fmt.Fprintln(w, "The cart is full.")
				return err
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(w, quantity, r.FormValue("article"))
			return err
		},
	})
	// Output:
	// 1 tea
	// 1 cup
	// The cart is full.
}
