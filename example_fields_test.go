package session_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

const visits session.Counter = "visits"

func hello(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	n := visits.Get(s)
	visits.Add(s, 1) // committed before the first byte
	_, err := fmt.Fprintf(w, "Hello World #%d\n", n)
	return err
}

// A handler that counts the visits of a session.
func Example() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	handler := sessions.Handler(session.HandlerFunc(hello))

	browse(handler, "/", "/", "/")
	// Output:
	// Hello World #0
	// Hello World #1
	// Hello World #2
}

// Load and Commit are the middleware in two halves, for a server that is not net/http.
func Example_otherServer() {
	const visits session.Counter = "visits"
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	countVisit := func(ctx context.Context) (string, error) {
		s, err := session.From(ctx)
		if err != nil {
			return "", err
		}
		visits.Add(s, 1)
		return fmt.Sprintf("visit %d", visits.Get(s)), nil
	}
	// serve answers one request of a server that is not net/http.
	serve := func(request *http.Request) (status int, response http.Header, body string) {
		ctx, err := sessions.Load(request)
		if err == nil {
			body, err = countVisit(ctx)
		}
		response, commitErr := sessions.Commit(ctx)
		if err = errors.Join(err, commitErr); err != nil {
			return session.Status(err), response, session.Message(err)
		}
		return http.StatusOK, response, body
	}

	request := httptest.NewRequest("GET", "/", nil)
	status, response, body := serve(request)
	fmt.Println(status, body)
	request.AddCookie((&http.Response{Header: response}).Cookies()[0])
	status, _, body = serve(request)
	fmt.Println(status, body)
	// Output:
	// 200 visit 1
	// 200 visit 2
}

// browse prints what a browser gets from each path in turn.
func browse(h http.Handler, paths ...string) {
	server := httptest.NewTLSServer(h)
	defer server.Close()
	browser := server.Client()
	browser.Jar, _ = cookiejar.New(nil)
	for _, path := range paths {
		res, err := browser.Get(server.URL + path)
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Print(string(body))
	}
}

// show serves each handler under its path, visits the paths in turn and prints the responses.
func show(paths []string, handlers map[string]session.HandlerFunc) {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	for path, h := range handlers {
		mux.Handle(path, h)
	}
	browse(sessions.Handler(mux), paths...)
}

// Concurrent additions add up.
func ExampleCounter() {
	const downloads session.Counter = "downloads"

	show([]string{"/get", "/get", "/count"}, map[string]session.HandlerFunc{
		"/get": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			downloads.Add(s, 1)
			return nil
		},
		"/count": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			_, err := fmt.Fprintln(w, downloads.Get(s))
			return err
		},
	})
	// Output: 2
}

// A count for each key, as in a cart.
func ExampleCounters() {
	const quantities session.Counters = "cart.quantities"

	show([]string{"/add?article=tea", "/add?article=cup", "/add?article=tea", "/cart"}, map[string]session.HandlerFunc{
		"/add": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			// Concurrent additions of one article add up.
			quantities.Add(s, r.FormValue("article"), 1)
			return nil
		},
		"/cart": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			for article, quantity := range quantities.All(s) {
				fmt.Fprintln(w, quantity, article)
			}
			return nil
		},
	})
	// Output:
	// 1 cup
	// 2 tea
}

// A value of any type that encodes as JSON.
func ExampleValue() {
	const theme session.Value[string] = "theme"

	show([]string{"/", "/choose?theme=dark", "/"}, map[string]session.HandlerFunc{
		"/choose": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			theme.Set(s, r.FormValue("theme"))
			return nil
		},
		"/": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			_, err := fmt.Fprintf(w, "theme: %q\n", theme.Get(s))
			return err
		},
	})
	// Output:
	// theme: ""
	// theme: "dark"
}

// An update that depends on the old value.
func ExampleValue_Update() {
	const recent session.Value[[]string] = "recent"

	show([]string{"/view?article=tea", "/view?article=cup"}, map[string]session.HandlerFunc{
		"/view": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			list, err := recent.Update(r.Context(), s, func(list []string) ([]string, error) {
				// Two concurrent requests lose neither article.
				return append(list, r.FormValue("article")), nil
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(w, list)
			return err
		},
	})
	// Output:
	// [tea]
	// [tea cup]
}

// Many values under keys.
func ExampleMap() {
	type address struct{ Street, Town string }
	const addresses session.Map[address] = "addresses"

	show([]string{"/save", "/list"}, map[string]session.HandlerFunc{
		"/save": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			addresses.Set(s, "home", address{"1 Mill Lane", "Ely"})
			addresses.Set(s, "work", address{"12 High Street", "Cambridge"})
			return nil
		},
		"/list": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			for name, a := range addresses.All(s) {
				fmt.Fprintf(w, "%s: %s, %s\n", name, a.Street, a.Town)
			}
			return nil
		},
	})
	// Output:
	// home: 1 Mill Lane, Ely
	// work: 12 High Street, Cambridge
}

// A notice that is shown once, after a redirect.
func ExampleValue_Take() {
	const notice session.Value[string] = "notice"

	show([]string{"/save", "/", "/"}, map[string]session.HandlerFunc{
		"/save": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			notice.Set(s, "Saved.")
			return nil
		},
		"/": func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			text, ok, err := notice.Take(r.Context(), s) // exactly one request gets it
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w, "%q %v\n", text, ok)
			return err
		},
	})
	// Output:
	// "Saved." true
	// "" false
}

// A browser that prefetches a page does not take the notice. Otherwise nobody would see it.
func ExampleValue_Take_prefetch() {
	const notice session.Value[string] = "notice"
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	home := func(w http.ResponseWriter, r *http.Request, s *session.Session) (err error) {
		var text string
		if r.Method != http.MethodHead && !strings.HasPrefix(r.Header.Get("Sec-Purpose"), "prefetch") {
			text, _, err = notice.Take(r.Context(), s)
		}
		fmt.Fprintf(w, "%q\n", text)
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", session.HandlerFunc(home))
	mux.Handle("/save", session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		notice.Set(s, "Saved.")
		return nil
	}))
	mux.Handle("/prefetched", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Sec-Purpose", "prefetch") // as a browser does
		session.HandlerFunc(home).ServeHTTP(w, r)
	}))
	browse(sessions.Handler(mux), "/save", "/prefetched", "/", "/")
	// Output:
	// ""
	// "Saved."
	// ""
}

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

// A stream sends a count whenever it changes, until the client hangs up or the session ends.
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
		send := func() error {
			fmt.Fprintf(w, "data: %d\n\n", unread.Get(s))
			return out.Flush()
		}
		if err := send(); err != nil {
			return err
		}
		for _, err := range s.Watch(r.Context()) {
			if errors.Is(err, session.ErrEnded) {
				_, err = fmt.Fprint(w, "event: ended\ndata: reload the page\n\n")
				return err
			}
			if err != nil {
				return err
			}
			if err := send(); err != nil {
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
