package session_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

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
	catalogue := session.Route{Down: session.DownAnonymous} // serves a page also when the store is down

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
