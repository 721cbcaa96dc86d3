// Command coatcheck is the command line of Coatcheck.
//
//	coatcheck demo      serve a small site with sessions: races, a shop, a game
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
