// Package child runs parts of a program in processes of their own. A child is the same binary,
// started with a hidden subcommand.
//
// A child prints its address to its standard output. It reads requests of its parent from its
// standard input, and prints the responses. It ends when its standard input is closed, and
// therefore with its parent, even if the parent is killed.
package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The messages between parent and child, one per line.
const (
	ready  = "ready "
	askCPU = "cpu"
)

// Process is a child, as its parent sees it. Only Stop is safe for concurrent use.
type Process struct {
	Addr string // the address on which the child listens

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr *tail
	stop   sync.Once
}

// Start runs this binary with args and waits until it listens. The child is killed when ctx ends.
func Start(ctx context.Context, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...) //nolint:gosec // the program runs itself
	p := &Process{cmd: cmd, stderr: &tail{}}
	// An interrupt ends ctx. Closing the standard input lets the child clean up. After WaitDelay,
	// the child is killed.
	p.cmd.Cancel = func() error { return p.stdin.Close() }
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.Stderr = p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdout = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := p.stdout.ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), ready)
	if err != nil || !ok {
		p.Stop()
		return nil, fmt.Errorf("%s did not start: %w", strings.Join(args, " "), p.cause(ctx, err))
	}
	p.Addr = addr
	return p, nil
}

// CPU returns the CPU time that the child has used, in user and system mode.
func (p *Process) CPU() (time.Duration, error) {
	if _, err := fmt.Fprintln(p.stdin, askCPU); err != nil {
		return 0, p.cause(context.Background(), err)
	}
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		return 0, p.cause(context.Background(), err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the CPU time of the server: %q: %w", line, p.cause(context.Background(), err))
	}
	return time.Duration(n), nil
}

// Stop ends the child and waits for it. It may be called more than once.
func (p *Process) Stop() {
	p.stop.Do(func() {
		_ = p.stdin.Close()
		timer := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
		defer timer.Stop()
		_ = p.cmd.Wait() // the exit status does not matter, because Stop ended the child
	})
}

// Stderr returns the end of the child's standard error.
func (p *Process) Stderr() string { return p.stderr.String() }

// cause returns the error of ctx, or else what the child printed to its standard error, or else
// err.
func (p *Process) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if text := p.Stderr(); text != "" {
		return errors.New(text)
	}
	return err
}

// tail is a writer that keeps only the end of its input.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 2 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if extra := len(t.text) - tailSize; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
