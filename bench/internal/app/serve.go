package app

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/coatcheck-go/session/bench/internal/child"
)

// Command is the hidden subcommand that serves one system.
const Command = "serve-app"

// Start starts a process that serves the system with this name.
func Start(ctx context.Context, name string, o Options) (*child.Process, error) {
	return child.Start(ctx, Command, name, o.Redis, strconv.Itoa(o.Pool), strconv.FormatBool(o.NoNearCache))
}

// Main runs the process that Start has started, with the arguments that Start has passed.
func Main(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: %s SYSTEM REDIS POOL NO-NEAR-CACHE", Command)
	}
	pool, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	noNearCache, err := strconv.ParseBool(args[3])
	if err != nil {
		return err
	}
	found, err := Find(args[:1])
	if err != nil {
		return err
	}
	server, err := found[0].open(Options{Redis: args[1], Pool: pool, NoNearCache: noNearCache})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(listener) }()
	go func() { failed <- child.Serve(listener.Addr().String()) }()
	return <-failed
}
