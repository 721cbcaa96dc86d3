// Command coatcheck runs what Coatcheck offers from a terminal: for now the demo.
//
//	coatcheck demo      a web page with a session, and two races to try
//	coatcheck --help    everything else
package main

import (
	"context"
	"os"

	"github.com/coatcheck-go/session/coatcheck/internal/cli"
)

func main() {
	os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
