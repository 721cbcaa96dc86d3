package sessionprom_test

import (
	"fmt"
	"log"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck-go/session"
	sessionprom "github.com/coatcheck-go/session/adapters/prometheus"
	"github.com/coatcheck-go/session/memstore"
)

func Example() {
	store := memstore.New()
	metrics := sessionprom.New(store, sessionprom.Options{})
	prometheus.MustRegister(metrics)
	sessions, err := session.New(store, session.Config{
		Observers: []session.Observer{metrics},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sessions.Config().Observers))
	// Output: 1
}
