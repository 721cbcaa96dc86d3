// Package cli is the command line of coatcheck: a file for each command, and what they share.
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
	exitFailed = 1 // the command could not do its work
	exitUsage  = 2 // the command line is wrong
)

// Run runs the command that args name, until it is done or ctx is. It returns the exit code.
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

A session keeps what an application knows about a visitor. The visitor's browser
gets nothing but a ticket: a random token. No write of concurrent requests is
lost, and a session that has ended stays ended.`,
		Example: `  coatcheck demo                           see it in a browser, and try two races
  coatcheck demo --help                    what the demo can do
  coatcheck policy aal2                    what a security policy asks of sessions
  coatcheck completion bash                completion for your shell`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SilenceErrors: true, // Run prints them
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(suggestFlag)
	root.AddCommand(newDemo(), newPolicy())
	return root
}
