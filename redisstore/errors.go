package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
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
	if errors.As(err, &op) && op.Op == "dial" {
		return tryAgain
	}
	return uncertain
}

// attempt runs do until it succeeds, fails for good, or the time is up. do may be repeated only where it certainly did not run, or
// where it is idempotent.
func (s *Store) attempt(ctx context.Context, idempotent bool, do func(context.Context) error) error {
	if d, ok := ctx.Deadline(); !ok || time.Until(d) > s.opt.Timeout {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.opt.Timeout)
		defer cancel()
	}
	for try := 0; ; try++ {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if s.closed.Load() {
			return ErrClosed
		}
		v := judge(err)
		if v == notRun {
			return hint(err)
		}
		if v == uncertain && !idempotent {
			return fmt.Errorf("%w: %v", driver.ErrUnknown, err)
		}
		wait := time.Millisecond << min(try, 6)
		select {
		case <-ctx.Done():
			if v == uncertain {
				return fmt.Errorf("%w: %v", driver.ErrUnknown, err)
			}
			return fmt.Errorf("redisstore: gave up: %w", err)
		case <-time.After(wait + rand.N(wait)):
		}
	}
}

// mends are what an operator can do about the errors of servers.
var mends = []struct{ prefix, mend string }{
	{"OOM", "Redis is out of memory: raise maxmemory, or shorten the sessions' life"},
	{"NOPERM", "the user may not do this: see \"ACL\" in format/README.md"},
	{"NOAUTH", "Redis asks for a password: put user and password into the URL"},
	{"WRONGPASS", "user or password is wrong"},
	{"MISCONF", "Redis cannot write to its disk"},
	{"WRONGTYPE", "another program uses the namespace: choose another Options.Namespace"},
	{"BUSY", "a script of somebody has been running too long"},
	{"ERR unknown command", "the server lacks a command that the store needs"},
}

// hint adds what an operator can do.
func hint(err error) error {
	for _, m := range mends {
		if strings.HasPrefix(err.Error(), m.prefix) {
			return fmt.Errorf("redisstore: %s (%w)", m.mend, err)
		}
	}
	return fmt.Errorf("redisstore: %w", err)
}
