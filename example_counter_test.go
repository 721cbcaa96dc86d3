package session_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

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
