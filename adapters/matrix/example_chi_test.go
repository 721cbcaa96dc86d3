package matrix_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

const views session.Counter = "views"

func home(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	views.Add(s, 1)
	_, err := fmt.Fprintf(w, "Hello World #%d\n", views.Get(s))
	return err
}

func account(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	_, err := fmt.Fprintln(w, s.User())
	return err
}

// chi's logger stays silent in tests.
func init() {
	middleware.DefaultLogger = middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: log.New(io.Discard, "", 0)})
}

func Example_chi() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}

	r := chi.NewRouter()
	r.Use(middleware.Logger, middleware.Recoverer, sessions.Handler)
	r.Method("GET", "/", session.HandlerFunc(home))
	r.With(session.Route{SignedIn: true}.Handler).Method("GET", "/account", session.HandlerFunc(account))

	browse(r, "/", "/", "/account")
	// Output:
	// 200 Hello World #1
	// 200 Hello World #2
	// 401 Please sign in.
}

func Example_netHTTP() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.Handle("GET /{$}", session.HandlerFunc(home))
	mux.Handle("GET /account", session.Route{SignedIn: true}.Handler(session.HandlerFunc(account)))
	handler := sessions.Handler(mux)

	browse(handler, "/", "/", "/account")
	// Output:
	// 200 Hello World #1
	// 200 Hello World #2
	// 401 Please sign in.
}

// browse visits pages as one visitor and prints what it gets.
func browse(h http.Handler, paths ...string) {
	server := httptest.NewTLSServer(h)
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cookie := ""
	for _, path := range paths {
		r, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
		if err != nil {
			log.Fatal(err)
		}
		r.Header.Set("Cookie", cookie)
		res, err := server.Client().Do(r)
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if set := res.Header.Get("Set-Cookie"); set != "" {
			cookie, _, _ = strings.Cut(set, ";")
		}
		fmt.Println(res.StatusCode, strings.TrimSpace(string(body)))
	}
}
