package redisstore_test

import (
	"context"
	"log"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
)

func ExampleOpen() {
	const visits session.Counter = "visits"
	ctx := context.Background()

	store, err := redisstore.Open(ctx, "redis://localhost:6379", redisstore.Options{})
	if err != nil {
		log.Fatal(err) // says what is wrong and how to fix it
	}
	defer store.Close()

	sessions, err := session.New(store, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	count := func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		visits.Add(s, 1)
		return nil
	}
	http.Handle("/", sessions.Handler(session.HandlerFunc(count)))
}
