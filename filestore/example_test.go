package filestore_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/filestore"
)

// A visitor's session continues after a restart of the process.
func Example() {
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	var cookies []*http.Cookie // the visitor's
	for range 2 {
		cookies = runOnce(dir, cookies)
	}
	// Output:
	// visit 1
	// visit 2
}

// runOnce acts as a process that opens the store, answers one request, and ends.
func runOnce(dir string, cookies []*http.Cookie) []*http.Cookie {
	store, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	sessions, err := session.New(store, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	const visits session.Counter = "visits"
	handler := sessions.Handler(session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		visits.Add(s, 1)
		_, err := fmt.Fprintf(w, "visit %d", visits.Get(s))
		return err
	}))

	request := httptest.NewRequest(http.MethodGet, "https://shop.example/", nil)
	for _, c := range cookies {
		request.AddCookie(c)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	fmt.Println(answer.Body)
	return answer.Result().Cookies()
}
