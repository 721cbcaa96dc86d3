package sessionotel_test

import (
	"fmt"
	"log"

	"github.com/coatcheck-go/session"
	sessionotel "github.com/coatcheck-go/session/adapters/otel"
	"github.com/coatcheck-go/session/memstore"
)

func Example() {
	store := memstore.New()
	traces, err := sessionotel.New(store, sessionotel.Options{})
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := session.New(store, session.Config{
		Observers: []session.Observer{traces},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sessions.Config().Observers))
	// Output: 1
}
