package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// patience keeps the limit on an operation's time where the client does not: a connection holds 1,024 commands that are not answered
// yet, those included that nobody waits for any longer, and the next one waits for room however long that takes. So when many are
// under way, or one has timed out of late, operations run in goroutines that can be left behind. One that is interrupted after that was decided,
// while a thousand others fill the connection to a server that hangs, still waits for the client to give the connection up: some seconds.
type patience struct {
	busy  atomic.Int64 // operations under way, those included that were left behind
	doubt atomic.Int64 // until when servers are suspected, by the monotonic clock, since started
}

const (
	freely      = 256  // operations under way that cannot fill a connection
	mostLeft    = 8192 // operations under way, above which they are refused
	doubtLasts  = 5 * time.Second
	explanation = "redisstore: %d operations wait for servers that do not answer"
)

// errNotSent says that a command was not sent at all.
var errNotSent = errors.New("not sent")

func (p *patience) run(ctx context.Context, do func(context.Context) error) (err error) {
	busy := p.busy.Add(1)
	if busy <= freely && int64(time.Since(started)) >= p.doubt.Load() {
		err = do(ctx)
		p.busy.Add(-1)
	} else if busy > mostLeft {
		p.busy.Add(-1)
		return fmt.Errorf(explanation+" (%w)", busy-1, errNotSent)
	} else {
		done := make(chan error, 1)
		go func() {
			done <- do(ctx)
			p.busy.Add(-1)
		}()
		select {
		case err = <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		p.doubt.Store(int64(time.Since(started) + doubtLasts))
	}
	return err
}
