// Command coatcheck is the command line of Coatcheck.
//
//	coatcheck demo      serve a web page with a session, and two races to try
//	coatcheck policy    print the configuration of a security policy
//	coatcheck show      print a stored session
//	coatcheck --help    explain the commands
package main

import (
	"context"
	"os"

	"github.com/coatcheck-go/session/coatcheck/internal/cli"
)

func main() {
	os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
