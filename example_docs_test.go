package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// The examples of this file are those of docs/.

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

func Example_otherServer() {
	const visits session.Counter = "visits"
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	// serve answers one request of a server that is not net/http.
	serve := func(ctx context.Context, request http.Header) (status int, response http.Header, body string) {
		ctx = sessions.Load(ctx, request)
		s, err := session.From(ctx)
		if err == nil {
			visits.Add(s, 1)
			body = fmt.Sprintf("visit %d", visits.Get(s))
		}
		response, commitErr := sessions.Commit(ctx)
		if err = errors.Join(err, commitErr); err != nil {
			return session.Status(err), response, http.StatusText(session.Status(err))
		}
		return http.StatusOK, response, body
	}

	status, response, body := serve(context.Background(), http.Header{})
	fmt.Println(status, body)
	cookie := (&http.Response{Header: response}).Cookies()[0]
	status, _, body = serve(context.Background(), http.Header{"Cookie": {cookie.Name + "=" + cookie.Value}})
	fmt.Println(status, body)
	// Output:
	// 200 visit 1
	// 200 visit 2
}

func Example_cookie() {
	sessions, err := session.New(memstore.New(), session.Config{
		Cookie: session.Cookie{
			Name:     "__Secure-session",
			Domain:   "shop.example",
			SameSite: http.SameSiteStrictMode,
		},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(sessions.Config().Cookie.Name, sessions.Config().Cookie.Path)

	_, err = session.New(memstore.New(), session.Config{
		Cookie: session.Cookie{Domain: "shop.example"},
	})
	fmt.Println(err != nil)
	// Output:
	// __Secure-session /
	// true
}

func Example_otherOrigins() {
	trusted := http.NewCrossOriginProtection()
	if err := trusted.AddTrustedOrigin("https://shop.example"); err != nil {
		panic(err)
	}
	trusted.AddInsecureBypassPattern("POST /webhook")
	_, err := session.New(memstore.New(), session.Config{
		CrossOrigin: trusted,
		CSRF:        true,
		CSRFExempt:  []string{"POST /webhook"},
	})
	fmt.Println(err)
	// Output: <nil>
}

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
