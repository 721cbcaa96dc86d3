package main

import (
	"context"
	"crypto/rand"
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"golang.org/x/oauth2"
)

func main() {
	issuer := flag.String("issuer", "", "URL of the identity provider")
	address := flag.String("listen", "localhost:8080", "address to listen on")
	flag.Parse()
	sessions, err := newSessions()
	if err != nil {
		log.Fatal(err)
	}
	a, err := newApp(context.Background(), sessions, *issuer, oauth2.Config{
		ClientID:     os.Getenv("CLIENT_ID"),
		ClientSecret: os.Getenv("CLIENT_SECRET"),
		RedirectURL:  "http://" + *address + "/callback",
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on http://%s", *address)
	server := http.Server{Addr: *address, Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// newSessions returns a Manager that seals what it stores. An application keeps its keys in a
// secret store: with random keys, everybody is signed out at each start.
func newSessions() (*session.Manager, error) {
	key, userKey := make([]byte, 32), make([]byte, 32)
	_, _ = rand.Read(key)
	_, _ = rand.Read(userKey)
	return session.New(memstore.New(), session.Config{
		Keys:    [][]byte{key},
		UserKey: userKey,
		Seal:    true, // the provider's tokens are worth as much as a password
		OnError: onError,
	})
}
