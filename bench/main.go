// Bench measures what a session costs on each session library for Go, and what each library keeps and loses, side by
// side in one run. It is never released: its figures are for the README, and for those who doubt them.
//
// Every measurement has a server process of its own, which is this program again with a hidden subcommand (package
// app); the load comes from this process (package load); one Redis server serves all (package redisd). Package measure
// puts them together, and package report shows the result.
//
// To add a system, write a file beside the others in internal/app, and its name into the list in system.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/mattn/go-isatty"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/measure"
	"github.com/coatcheck-go/session/bench/internal/redisd"
)

func main() {
	if hidden(os.Args[1:]) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode(err))
}

// hidden does what this program does as a child of itself, and reports whether it was one.
func hidden(args []string) bool {
	if len(args) == 0 {
		return false
	}
	var err error
	switch args[0] {
	case app.Command:
		err = app.Main(args[1:])
	case redisd.Command:
		err = redisd.Main()
	default:
		return false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err) // for the parent, which says the rest
		os.Exit(1)
	}
	return true
}

// errUsage is an error that has been explained.
var errUsage = errors.New("usage")

// exitCode says what went wrong and returns what the shell is told.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "bench: stopped")
		return 130
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

// run is the program, but for its process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stdout, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return errUsage
	}
	shown := progress{w: stderr, terminal: isTerminal(stderr)}
	o.config.Progress = shown.step
	result, err := measure.Run(ctx, o.config)
	shown.end()
	if err != nil {
		return err
	}
	if o.json {
		err = result.JSON(stdout)
	} else {
		err = result.Text(stdout, isTerminal(stdout) && os.Getenv("NO_COLOR") == "")
	}
	return errors.Join(err, writeFile(o.markdown, result.Markdown), writeFile(o.svg, result.SVG))
}

// writeFile writes a file; none if name is empty.
func writeFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
