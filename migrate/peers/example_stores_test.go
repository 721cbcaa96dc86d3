package peers

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/migrate"
)

// Sessions of one store go on in another one, while visitors browse.
func ExampleCoatcheck() {
	from, to := memstore.New(), memstore.New() // in an application: a file, and Redis
	defer from.Close()
	defer to.Close()
	app := session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		visits.Add(s, 1)
		_, err := fmt.Fprintf(w, "visit %d\n", visits.Get(s))
		return err
	})

	old, err := session.New(from, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := session.New(to, session.Config{Cookie: session.Cookie{Name: "__Host-s2"}})
	if err != nil {
		log.Fatal(err)
	}
	migration, err := migrate.New(sessions, to, migrate.Coatcheck{Manager: old}, migrate.Options{
		Move: func(_ context.Context, old *migrate.Old, s *session.Session) (*session.Login, error) {
			var from *session.Session
			old.Get("session", &from)
			visits.Add(s, visits.Get(from))
			return migrate.LoginOf(from), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	handler := sessions.Handler(migration.Handler(app))

	w := httptest.NewRecorder()
	old.Handler(app).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://example.test/", nil))
	r := httptest.NewRequest(http.MethodGet, "https://example.test/", nil)
	r.AddCookie(w.Result().Cookies()[0])
	w = httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Print(w.Body)
	fmt.Println(from.Len(), "sessions in the old store")
	// Output:
	// visit 2
	// 0 sessions in the old store
}
