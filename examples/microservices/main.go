// Command microservices starts a company of five services in five languages, which share one
// session.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	quiet := flag.Bool("quiet", false, "do not print what the services print")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var output io.Writer = os.Stderr
	if *quiet {
		output = io.Discard
	}
	fmt.Println("starting; the first time, this installs what the services need, and takes minutes")
	c, err := startCompany(ctx, output)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("open %s  (the browser warns about the certificate)\nCtrl-C stops all services\n", c.address)
	<-ctx.Done()
	if err := c.stop(); err != nil {
		log.Fatal(err)
	}
}
