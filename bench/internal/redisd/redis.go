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

// Start starts redis-server on a free port of the loopback interface. The server has a directory of
// its own and writes nothing to disk. A supervisor process ends the server and removes the
// directory when this process ends, even if this process is killed.
func Start(ctx context.Context) (*child.Process, error) { return child.Start(ctx, Command) }

// Main runs the supervisor process.
func Main() (err error) {
	dir, err := os.MkdirTemp("", "coatcheck-bench-redis-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	port, err := freePort()
	if err != nil {
		return err
	}
	server := exec.Command("redis-server", //nolint:gosec,noctx // own arguments; killed below
		"--bind", "127.0.0.1", "--port", port, "--dir", dir,
		"--save", "", "--appendonly", "no", "--loglevel", "warning")
	// Standard output is reserved for messages to the parent.
	server.Stdout, server.Stderr = os.Stderr, os.Stderr
	if err := server.Start(); err != nil {
		return fmt.Errorf("%w: install redis-server (Debian: apt-get install redis-server)", err)
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
			return errors.New("redis-server ended during its start")
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("redis-server does not accept connections on %s after 5 s", addr)
}
