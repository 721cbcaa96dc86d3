package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"

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
