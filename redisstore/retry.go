package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// effect says what happens if a command runs twice.
type effect uint8

const (
	notIdempotent effect = iota // its change happens twice: repeat it only if it did not run
	idempotent                  // its change happens once
	readOnly                    // it changes nothing
)

// withRetry runs do until it succeeds, fails for good, or Options.Timeout is over. It sends nothing
// to servers that are known to be down: see outage. The error is ErrUnknown if any try may have
// changed something, or still may, even if the last try certainly did not run.
//
// Read what do writes only after a nil error. do must not write to a named result: a try that was
// abandoned may still write.
func (s *Store) withRetry(ctx context.Context, at place, e effect, do func(context.Context) error) error {
	_, err := s.withRetryLost(ctx, at, e, do)
	return err
}

// withRetryLost is withRetry. lostReply says that a try before the last one may have run, so the
// reply may describe what that try left behind.
func (s *Store) withRetryLost(
	ctx context.Context, at place, e effect, do func(context.Context) error,
) (lostReply bool, err error) {
	if d, ok := ctx.Deadline(); !ok || time.Until(d) > s.opt.Timeout {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.opt.Timeout)
		defer cancel()
	}
	var unknown error // of the last try that may have run
	fail := func(err error) (bool, error) {
		switch {
		case unknown == nil || e == readOnly:
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
			return fail(fmt.Errorf("redisstore: timed out: %w", withAdvice(err)))
		case ctx.Err() != nil:
			return fail(fmt.Errorf("redisstore: nothing was sent: %w", ctx.Err()))
		}
		if err := s.outage.check(at, e); err != nil {
			return fail(err)
		}
		if err = s.inFlight.run(ctx, do); err == nil {
			return unknown != nil, nil
		}
		if errors.As(err, new(*ReplicaError)) { // this try certainly ran
			return unknown != nil, err
		}
		if errors.Is(err, errNotSent) {
			return fail(err)
		}
		switch classify(err) {
		case rejected:
			return fail(fmt.Errorf("redisstore: %w", withAdvice(err)))
		case uncertain:
			unknown = err
			if s.closed.Load() {
				return fail(ErrClosed)
			}
			if e == notIdempotent {
				s.suspectAfter(err, at)
				return fail(err)
			}
		}
		s.suspectAfter(err, at)
		pause(ctx, try)
	}
}

// suspectAfter has the servers probed after a failure, unless it only says that a slot is moving.
func (s *Store) suspectAfter(err error, at place) {
	if redisErr, ok := rueidis.IsRedisErr(err); ok {
		for _, prefix := range [...]string{"TRYAGAIN", "MOVED", "ASK"} {
			if strings.HasPrefix(redisErr.Error(), prefix) {
				return
			}
		}
	}
	if at == anywhere && s.topology == cluster || errors.Is(err, context.Canceled) {
		return
	}
	s.outage.suspect(suspicion{at: at})
}

// isReadOnly reports that a server refused a write because it is a replica.
func isReadOnly(err error) bool {
	redisErr, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(redisErr.Error(), "READONLY")
}

// pause waits before a repetition, longer after each try.
func pause(ctx context.Context, try int) {
	wait := time.Millisecond << min(try, 6)
	select {
	case <-ctx.Done():
	case <-time.After(wait + rand.N(wait)): //nolint:gosec // jitter is no secret
	}
}

// failure says what an error tells about the command that failed.
type failure uint8

const (
	rejected  failure = iota // it did not run, and will not
	transient                // it did not run; the cause may pass while the operation waits
	uncertain                // it may have run, or may still run
)

// transientErrors begin the replies of servers that may soon be, or know, the right primary. Two
// refuse a new connection: they pass when the password has been changed on both sides.
var transientErrors = []string{"WRONGPASS", "NOAUTH", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS"}

func classify(err error) failure {
	if redisErr, ok := rueidis.IsRedisErr(err); ok {
		for _, prefix := range transientErrors {
			if strings.HasPrefix(redisErr.Error(), prefix) {
				return transient
			}
		}
		return rejected
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || errors.Is(err, rueidis.ErrNoSlot) {
		return transient
	}
	return uncertain
}

// inFlight makes operations return at their deadline also where the client blocks. A connection
// holds 1,024 unanswered commands, those included that nobody waits for any more. The next
// command waits for room without a limit. So if many operations run, or one has timed out
// recently, each runs in a goroutine that can be abandoned.
//
// One case is left: an operation that began without a goroutine, while a thousand others fill the
// connection to a server that hangs. It waits until the client gives up the connection, for some
// seconds.
type inFlight struct {
	running atomic.Int64 // operations, those included that were abandoned
	suspect atomic.Int64 // monotonic, since started: until then, servers may hang
}

const (
	maxDirect   = 256  // operations that cannot fill a connection
	maxInFlight = 8192 // more operations are refused
	suspectFor  = 5 * time.Second
)

// errNotSent says that a command was not sent.
var errNotSent = errors.New("not sent")

func (f *inFlight) run(ctx context.Context, do func(context.Context) error) (err error) {
	running := f.running.Add(1)
	if running <= maxDirect && int64(time.Since(started)) >= f.suspect.Load() {
		err = do(ctx)
		f.running.Add(-1)
	} else if running > maxInFlight {
		f.running.Add(-1)
		return fmt.Errorf("redisstore: %d operations wait for servers that do not answer (%w)", running-1, errNotSent)
	} else {
		done := make(chan error, 1)
		go func() {
			done <- do(ctx)
			f.running.Add(-1)
		}()
		select {
		case err = <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		f.suspect.Store(int64(time.Since(started) + suspectFor))
	}
	return err
}
