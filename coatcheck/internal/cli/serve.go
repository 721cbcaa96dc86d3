package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// listen opens addr. If another program uses the port, the error suggests another one.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, usagef("--addr %q is not HOST:PORT, such as 127.0.0.1:5001", addr)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err == nil || !inUse(err) {
		return ln, err
	}
	hint := ""
	if port == "5000" {
		hint = " (on macOS, AirPlay Receiver uses it)"
	}
	next := 5001
	if n, err := strconv.Atoi(port); err == nil && n < 65535 {
		next = n + 1
	}
	other := net.JoinHostPort(host, strconv.Itoa(next))
	return nil, fmt.Errorf("%s is in use by another program%s: try --addr %s", addr, hint, other)
}

// inUse reports whether err says that another program uses the port.
func inUse(err error) bool {
	const onWindows = syscall.Errno(10048) // WSAEADDRINUSE
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, onWindows)
}

// drainTimeout is the time that running requests get to finish after Ctrl-C. It is longer than the
// longest request of the demo.
const drainTimeout = 15 * time.Second

// interruptible returns a context that is done after the first Ctrl-C or SIGTERM. Call stop then: a
// second one ends the process at once.
func interruptible(ctx context.Context) (_ context.Context, stop context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// serve answers requests until ctx is done, calls stop, and waits for the running requests.
func serve(ctx context.Context, stop context.CancelFunc, ln net.Listener, h http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		// ReadTimeout also ends requests that the demo is answering, so it is longer than
		// drainTimeout.
		ReadTimeout:    30 * time.Second,
		WriteTimeout:   30 * time.Second,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop()
	log.Info("stopping: waiting for the running requests; press Ctrl-C again to stop at once")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return fmt.Errorf("requests were still running after %v: %w", drainTimeout, err)
	}
	return nil
}
