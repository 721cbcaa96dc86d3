// Package cli implements the command line of coatcheck. Each command has a file of its own.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the command failed
	exitUsage  = 2 // the command line is wrong
)

// Run runs the command that args name, until it is done or ctx ends. It returns the exit code.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "coatcheck: %v\n", err)
	if wrong := (*usageError)(nil); errors.As(err, &wrong) {
		fmt.Fprintf(stderr, "See '%s --help'.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "coatcheck",
		Short: "Sessions for web applications: hand over the state, keep the ticket",
		Long: `Sessions for web applications: hand over the state, keep the ticket.

A session stores what an application knows about a visitor. The visitor's browser
stores only a ticket: a random token. Concurrent requests lose no write, and a
session that has ended stays ended.`,
		Example: `  coatcheck demo                           see sessions in a browser: races, a shop, a game
  coatcheck demo --help                    list the options of the demo
  coatcheck policy aal2                    print the configuration of a security policy
  coatcheck show HANDLE                    print a stored session
  coatcheck completion bash                print the completion script for your shell`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SilenceErrors: true, // Run prints errors
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(suggestFlag)
	root.AddCommand(newDemo(), newPolicy(), newShow())
	return root
}
