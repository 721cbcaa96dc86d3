package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// ErrClosed is what a store answers after Close.
var ErrClosed = errors.New("redisstore: the store is closed")

// verdict is what an error says of a command that was to change something.
type verdict uint8

const (
	notRun    verdict = iota // it certainly did not run, and will not
	tryAgain                 // nor did it run; the cause may pass within the operation's time
	uncertain                // it may have run, or may yet
)

// passing are the errors of servers that are about to become, or to find, the right one.
var passing = []string{"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS"}

func judge(err error) verdict {
	if redisErr, ok := rueidis.IsRedisErr(err); ok {
		for _, prefix := range passing {
			if strings.HasPrefix(redisErr.Error(), prefix) {
				return tryAgain
			}
		}
		return notRun
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || errors.Is(err, rueidis.ErrNoSlot) {
		return tryAgain
	}
	return uncertain
}

// effect says what becomes of a command that is sent twice.
type effect uint8

const (
	once       effect = iota // it happens twice: it may be repeated only where it certainly did not run
	repeatable               // it happens once
	reading                  // nothing happens at all
)

// attempt is tried for who need not know whether an answer was lost on the way to a good one.
func (s *Store) attempt(ctx context.Context, e effect, do func(context.Context) error) error {
	_, err := s.tried(ctx, e, do)
	return err
}

// tried runs do until it succeeds, fails for good, or Options.Timeout is up. What it returns is ErrUnknown if any of the tries may
// have changed something, or may yet: also if the last one certainly did not. lost says that one of them may have, before the last one.
//
// What do writes may be read after a nil error only, and must be no named result: a try that was left behind may still write it.
func (s *Store) tried(ctx context.Context, e effect, do func(context.Context) error) (lost bool, err error) {
	if d, ok := ctx.Deadline(); !ok || time.Until(d) > s.opt.Timeout {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.opt.Timeout)
		defer cancel()
	}
	var unknown error // of the last try that may have run
	fail := func(err error) (bool, error) {
		switch {
		case unknown == nil || e == reading:
			return unknown != nil, err
		case errors.Is(err, ErrClosed):
			return true, fmt.Errorf("%w: %w", driver.ErrUnknown, ErrClosed)
		}
		return true, fmt.Errorf("%w: %v", driver.ErrUnknown, unknown)
	}
	for try := 0; ; try++ {
		switch {
		case s.closed.Load():
			return fail(ErrClosed)
		case ctx.Err() != nil && err != nil:
			return fail(fmt.Errorf("redisstore: the time is over: %w", hint(err)))
		case ctx.Err() != nil:
			return fail(fmt.Errorf("redisstore: nothing was sent: %w", ctx.Err()))
		}
		if err = s.patience.run(ctx, do); err == nil {
			return unknown != nil, nil
		}
		if errors.As(err, new(*ReplicaError)) { // whatever became of the tries before, this one was done
			return unknown != nil, err
		}
		if errors.Is(err, errNotSent) {
			return fail(err)
		}
		switch judge(err) {
		case notRun:
			return fail(fmt.Errorf("redisstore: %w", hint(err)))
		case uncertain:
			unknown = err
			if s.closed.Load() {
				return fail(ErrClosed)
			}
			if e == once {
				return fail(err)
			}
		}
		pause(ctx, try)
	}
}

// pause waits before a try is repeated, longer each time.
func pause(ctx context.Context, try int) {
	wait := time.Millisecond << min(try, 6)
	select {
	case <-ctx.Done():
	case <-time.After(wait + rand.N(wait)): //nolint:gosec // jitter is no secret
	}
}

// mends are what an operator can do about the errors of servers, as the client gives them: without "ERR ".
var mends = []struct{ prefix, mend string }{
	{"OOM", "Redis is out of memory: raise maxmemory, or shorten the sessions' life"},
	{"NOPERM", "the user may not do this: see \"ACL\" in format/README.md"},
	{"ACL failure", "the user may not do this: see \"ACL\" in format/README.md"},
	{"NOAUTH", "Redis asks for a password: put user and password into the URL"},
	{"WRONGPASS", "user or password is wrong"},
	{"MISCONF", "Redis cannot write to its disk"},
	{"WRONGTYPE", "another program uses the namespace: choose another Options.Namespace"},
	{"BUSY", "a script of somebody has been running too long"},
	{"unknown command 'SENTINEL'", "this is no sentinel: redis+sentinel:// names the sentinels, whose port is 26379 as a rule"},
	{"unknown command", "the server has no such command, or it was renamed away, and the store needs it: let it be"},
	{"This instance has cluster support disabled", "this is not a node of a Cluster: use redis:// or redis+sentinel://"},
}

// hint adds what an operator can do.
func hint(err error) error {
	for _, m := range mends {
		if strings.HasPrefix(err.Error(), m.prefix) {
			return fmt.Errorf("%s (%w)", m.mend, frugal(err))
		}
	}
	return err
}

// frugal cuts what servers quote of a command that they do not know: a session's secret may be among it.
func frugal(err error) error {
	if text, _, quotes := strings.Cut(err.Error(), ", with args"); quotes {
		return errors.New(text)
	}
	return err
}

// connecting adds to the error of a first connection what an operator can do.
func connecting(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("redisstore: no connection: the server does not answer in time: is it up, and does it speak TLS as the URL's scheme says? (%w)", err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("redisstore: no connection: the server hangs up: does it speak TLS only? Then the scheme is rediss://, or the like (%w)", err)
	}
	return fmt.Errorf("redisstore: no connection: %w", hint(err))
}
