package peers

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/migrate"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// moveUser is the Move of the examples.
func moveUser(_ context.Context, old *migrate.Old, s *session.Session) (*session.Login, error) {
	var n int64
	if old.Get("visits", &n) {
		visits.Add(s, n)
	}
	var login session.Login
	if old.Get("user", &login.User) {
		return &login, nil
	}
	return nil, nil // nobody is signed in
}

// Sessions of scs go on as sessions of Coatcheck.
func Example() {
	server, err := redistest.New(redistest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()

	// The old program.
	old := scs.New()
	old.Store = goredisstore.New(client)
	oldApp := old.LoadAndSave(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		old.Put(r.Context(), "visits", 41)
		old.Put(r.Context(), "user", "ada")
	}))
	w := httptest.NewRecorder()
	oldApp.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://example.test/", nil))
	cookie := w.Result().Cookies()[0]

	// The new program.
	store := memstore.New()
	defer store.Close()
	keepUntil := time.Now().Add(24 * time.Hour)
	app := session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		visits.Add(s, 1)
		_, err := fmt.Fprintf(w, "visit %d of %s\n", visits.Get(s), s.User())
		return err
	})

	var migration *migrate.Migration
	sessions, err := session.New(store, session.Config{
		OnEvent: func(ctx context.Context, e session.Event) { migration.OnEvent(ctx, e) },
	})
	if err != nil {
		log.Fatal(err)
	}
	source := migrate.SCS{
		Redis:    func(ctx context.Context, args ...any) (any, error) { return client.Do(ctx, args...).Result() },
		Lifetime: 24 * time.Hour,
	}
	migration, err = migrate.New(sessions, store, source, migrate.Options{Move: moveUser, KeepUntil: keepUntil})
	if err != nil {
		log.Fatal(err)
	}
	handler := sessions.Handler(migration.Handler(app))

	r := httptest.NewRequest(http.MethodGet, "https://example.test/", nil)
	r.AddCookie(cookie)
	w = httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Print(w.Body)
	// Output: visit 42 of ada
}
