// Package redisd starts a real Redis server for the benchmark, and reads the statistics of the
// server.
package redisd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/coatcheck-go/session/bench/internal/child"
)

// Command is the hidden subcommand that supervises the Redis server.
const Command = "serve-redis"

// Start starts a Redis or Valkey server on a free port of the loopback interface. The server has a
// directory of its own and writes nothing to disk. A supervisor process ends the server and removes
// the directory when this process ends, even if this process is killed.
//
// binary is the program to run, as a path or as a name to be found in PATH.
func Start(ctx context.Context, binary string) (*child.Process, error) {
	return child.Start(ctx, Command, binary)
}

// DefaultBinary is the program that a distribution installs.
const DefaultBinary = "redis-server"

// Main runs the supervisor process, with the arguments that Start has passed.
func Main(args []string) (err error) {
	if len(args) != 1 {
		return fmt.Errorf("usage: %s BINARY", Command)
	}
	dir, err := os.MkdirTemp("", "coatcheck-bench-redis-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	port, err := freePort()
	if err != nil {
		return err
	}
	server := exec.Command(args[0], //nolint:gosec,noctx // the user names the program
		"--bind", "127.0.0.1", "--port", port, "--dir", dir,
		"--save", "", "--appendonly", "no", "--loglevel", "warning")
	// Standard output is reserved for messages to the parent.
	server.Stdout, server.Stderr = os.Stderr, os.Stderr
	if err := server.Start(); err != nil {
		return fmt.Errorf("%w: install redis-server (Debian: apt-get install redis-server), "+
			"or name another program with -server", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = server.Wait() // the server reports errors on its standard error
		close(ended)
	}()
	defer func() {
		_ = server.Process.Kill() // its data need not be saved
		<-ended
	}()

	addr := net.JoinHostPort("127.0.0.1", port)
	if err := awaitListener(addr, ended); err != nil {
		return err
	}
	return child.Serve(addr)
}

// freePort returns a port that no program uses.
func freePort() (string, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// awaitListener returns when the server accepts connections.
func awaitListener(addr string, ended <-chan struct{}) error {
	for range 500 {
		if conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", addr); err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return errors.New("the Redis server ended during its start")
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("the Redis server does not accept connections on %s after 5 s", addr)
}
