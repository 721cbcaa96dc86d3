package session_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
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
	const cart session.Counters = "cart"
	sessions, err := session.New(memstore.New(), session.Config{
		KeepFields: []string{string(cart)},
		OnError:    signIn,
	})
	if err != nil {
		panic(err)
	}

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

// A stream sends a count every few seconds, until the client hangs up or the session ends. It only
// reads, on a route that is Passive, so that an open page does not keep the session alive.
func Example_stream() {
	const unread session.Counter = "unread"
	const interval = 20 * time.Millisecond // in an application: some seconds
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	members := session.Route{SignedIn: true, Passive: true}
	stream := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		w.Header().Set("Content-Type", "text/event-stream")
		out := http.NewResponseController(w)
		for {
			fmt.Fprintf(w, "data: %d\n\n", unread.Get(s))
			if err := out.Flush(); err != nil {
				return err
			}
			select {
			case <-r.Context().Done():
				return nil
			case <-time.After(interval):
			}
			err := s.Reload(r.Context())
			if err == nil {
				err = members.Check(r.Context())
			}
			if errors.Is(err, session.ErrEnded) || errors.Is(err, session.ErrNotSignedIn) {
				_, err = fmt.Fprint(w, "event: ended\ndata: reload the page\n\n")
				return err
			}
			if err != nil {
				return err
			}
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/login", session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada"})
	}))
	mux.Handle("/stream", members.Handler(session.HandlerFunc(stream)))

	server := httptest.NewTLSServer(sessions.Handler(mux))
	defer server.Close()
	browser := server.Client()
	browser.Jar, _ = cookiejar.New(nil)
	res, err := browser.Get(server.URL + "/login")
	if err != nil {
		panic(err)
	}
	res.Body.Close()
	if res, err = browser.Get(server.URL + "/stream"); err != nil {
		panic(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Scan()
	fmt.Println(lines.Text())
	if _, err := sessions.RevokeUser(context.Background(), "ada"); err != nil {
		panic(err)
	}
	for ended := false; lines.Scan(); {
		if ended = ended || strings.HasPrefix(lines.Text(), "event:"); ended {
			fmt.Println(lines.Text())
		}
	}
	// Output:
	// data: 0
	// event: ended
	// data: reload the page
}

// A stream that writes to the session commits each change, and sees the error.
func Example_streamCommit() {
	const sent session.Counter = "sent"
	stream := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			sent.Add(s, 1)
			if err := s.Commit(r.Context()); err != nil {
				return err
			}
			fmt.Fprintf(w, "data: %d\n\n", sent.Get(s))
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
		}
		return nil
	}
	show([]string{"/stream"}, map[string]session.HandlerFunc{"/stream": stream})
	// Output:
	// data: 1
	//
	// data: 2
	//
	// data: 3
}
