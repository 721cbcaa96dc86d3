// Bench compares session libraries for Go. It measures what a session costs with each library, and
// which updates and sign-outs each library loses. It is never released: you run it to reproduce the
// figures of the README.
//
// Each measurement runs in a server process of its own: this program, started with a hidden
// subcommand (package app). This process sends the load (package load). All servers use one Redis
// server (package redisd). Package measure runs the measurements, and package report prints the
// result.
//
// To add a system, add a file to internal/app, and the system's name to the list in system.go.
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
	if runAsChild(os.Args[1:]) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode(err))
}

// runAsChild runs a hidden subcommand, and reports whether args name one.
func runAsChild(args []string) bool {
	if len(args) == 0 {
		return false
	}
	var err error
	switch args[0] {
	case app.Command:
		err = app.Main(args[1:])
	case redisd.Command:
		err = redisd.Main(args[1:])
	default:
		return false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err) // the parent adds the context
		os.Exit(1)
	}
	return true
}

// errUsage is a mistake in the command line, which has already been reported.
var errUsage = errors.New("usage")

// exitCode reports err and returns the exit status.
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

// run runs the program with these arguments and outputs.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stdout, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return errUsage
	}
	p := progress{w: stderr, terminal: isTerminal(stderr)}
	o.config.Progress = p.step
	result, err := measure.Run(ctx, o.config)
	p.end()
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

// writeFile writes a file. It does nothing if name is empty.
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
