package openstore_test

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/openstore"
)

func ExampleOpen() {
	ctx := context.Background()

	store, err := openstore.Open(ctx, cmp.Or(os.Getenv("SESSION_STORE"), "memory:"))
	if err != nil {
		log.Fatal(err) // says what is wrong, and quotes no password
	}
	defer store.Close()

	sessions, err := session.New(store, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("sessions in a %T: %v\n", store, sessions != nil)
	// Output: sessions in a *memstore.Store: true
}
