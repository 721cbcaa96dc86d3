package session_test

import (
	"fmt"
	"log"
	"net/http"
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

// A counter in a session: each visitor has their own, and concurrent requests lose no increment.
func ExampleCounter() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	handler := sessions.Handler(session.HandlerFunc(hello))
	// An application goes on with http.ListenAndServe(":8080", handler). Here a browser comes three times.
	var cookie string
	for range 3 {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Print(w.Body)
		for _, c := range w.Result().Cookies() {
			cookie = c.Name + "=" + c.Value
		}
	}
	// Output:
	// Hello World #0
	// Hello World #1
	// Hello World #2
}
