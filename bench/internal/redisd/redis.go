// Package redisd starts a real Redis server for the benchmark, and reads what the server says of itself.
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

// Command is the hidden subcommand of the process that looks after the Redis server.
const Command = "serve-redis"

// Start runs a redis-server on a free port of the loopback interface, with a directory of its own and nothing written
// to disk. A process of its own looks after it: it ends the server and removes the directory when this process ends,
// even by a kill that leaves no time to do so.
func Start(ctx context.Context) (*child.Process, error) { return child.Start(ctx, Command) }

// Main is what the process that looks after the server does.
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
	server := exec.Command("redis-server", //nolint:gosec,noctx // the port and the folder are ours; it ends below
		"--bind", "127.0.0.1", "--port", port, "--dir", dir,
		"--save", "", "--appendonly", "no", "--loglevel", "warning")
	server.Stdout, server.Stderr = os.Stderr, os.Stderr // standard output is the parent's
	if err := server.Start(); err != nil {
		return fmt.Errorf("%w: install redis-server (Debian: apt-get install redis-server)", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = server.Wait() // what went wrong is on its standard error
		close(ended)
	}()
	defer func() {
		_ = server.Process.Kill() // nothing in it is worth a goodbye
		<-ended
	}()

	addr := net.JoinHostPort("127.0.0.1", port)
	if err := awaitListener(addr, ended); err != nil {
		return err
	}
	return child.Serve(addr)
}

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
			return errors.New("redis-server ended as it started")
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("redis-server does not listen on %s", addr)
}
