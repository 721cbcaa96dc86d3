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
	framework := flag.String("framework", "net/http", "web framework: net/http, echo, echov4, gin or fiber")
	flag.Parse()
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if *framework == "fiber" {
		log.Fatal(newFiber(sessions).Listen(*address))
	}
	handler, ok := handlers[*framework]
	if !ok {
		log.Fatalf("unknown framework %q", *framework)
	}
	server := http.Server{Addr: *address, Handler: handler(sessions), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// handlers are the frameworks on net/http.
var handlers = map[string]func(*session.Manager) http.Handler{
	"net/http": newHandler, "echo": newEcho, "echov4": newEchoV4, "gin": newGin,
}
