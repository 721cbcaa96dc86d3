// Package child runs parts of a program in processes of their own: the same binary, started again with a hidden
// subcommand.
//
// A child says on its standard output where it listens, answers there what its parent asks for, and ends when its
// standard input does: so it ends with its parent, however that ends.
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

// What the two sides say to each other, a line each.
const (
	ready  = "ready "
	askCPU = "cpu"
)

// Process is a child as its parent sees it. Not safe for concurrent use, but for Stop.
type Process struct {
	Addr string // where it listens

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
	p := &Process{cmd: exec.CommandContext(ctx, self, args...), stderr: &tail{}} //nolint:gosec // it runs itself
	// An interrupt ends ctx. Closing the standard input lets the child clean up; only then is it killed.
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

// CPU returns the processor time that the child has used, in user and system mode.
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
		return 0, fmt.Errorf("the server's processor time: %q: %w", line, p.cause(context.Background(), err))
	}
	return time.Duration(n), nil
}

// Stop ends the child and waits for it. It may be called more than once.
func (p *Process) Stop() {
	p.stop.Do(func() {
		_ = p.stdin.Close()
		timer := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
		defer timer.Stop()
		_ = p.cmd.Wait() // how it ended says nothing: it was asked to
	})
}

// Complaints returns the end of what the child has written to its standard error.
func (p *Process) Complaints() string { return p.stderr.String() }

// cause is what went wrong, in the child's own words if it had any.
func (p *Process) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if said := p.Complaints(); said != "" {
		return errors.New(said)
	}
	return err
}

// tail keeps the end of what is written to it.
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
