package sqlstore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/openstore"
	"github.com/coatcheck-go/session/sqlstore"
)

func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	databaseURL := "sqlite://" + filepath.Join(dir, "sessions.db")

	store, err := sqlstore.Open(ctx, databaseURL, sqlstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	sessions, err := session.New(store, session.Config{})
	if err != nil {
		log.Fatal(err)
	}

	n, err := sessions.RevokeUser(ctx, "ada")
	fmt.Println(n, err)
	// Output: 0 <nil>
}

// This package registers its schemes with package openstore.
func Example_setting() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	store, err := openstore.Open(ctx, "sqlite://"+filepath.Join(dir, "sessions.db")+"?timeout=5s")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	fmt.Printf("%T\n", store)
	// Output: *sqlstore.Store
}
