// Command websockets shows how open responses follow a session, and end with it.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

func main() {
	address := flag.String("listen", "localhost:8080", "address to listen on")
	flag.Parse()
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{Addr: *address, Handler: newHandler(sessions), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
