package redisstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// ReplicaError says that the primary made an end, and that fewer replicas acknowledged it than
// Options.Replicas asks for. A failover to another replica could undo the end. The store would
// repeat it then. ReplicaError matches driver.ErrUnknown, because the missing acknowledgements
// may still arrive.
type ReplicaError struct {
	Want, Got int
	Unsaved   bool  // with Options.Fsync: the primary did not write it to its disk in time
	Err       error // why no replicas were counted, or nil
}

// Error says how many replicas acknowledged the end.
func (e *ReplicaError) Error() string {
	text := fmt.Sprintf("redisstore: the end is done, but %d of %d replicas acknowledged it in time", e.Got, e.Want)
	if e.Unsaved {
		text += "; the primary did not write it to its disk in time"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is reports whether target is driver.ErrUnknown.
func (e *ReplicaError) Is(target error) bool { return target == driver.ErrUnknown }

// Unwrap returns Err.
func (e *ReplicaError) Unwrap() error { return e.Err }

// writeCommand builds a command that writes.
type writeCommand = func(rueidis.Builder) rueidis.Completed

// bucketOnReplicas waits for replicas after an end in a bucket, if Options.Replicas asks for it.
// Each primary replicates one ordered stream. So a replica that has the marker has the end, too.
func (s *Store) bucketOnReplicas(ctx context.Context, bucket uint16) error {
	return s.waitForReplicas(ctx, place(bucket), func(b rueidis.Builder) rueidis.Completed {
		return b.Eval().Script(markerSource).Numkeys(1).Key(s.keys.replicaMarker(bucket)).Build()
	})
}

// markerSource always writes: to delete a missing key is no write, and WAIT would wait for
// nothing. It begins with a DEL, because an end must work also if memory is full. It leaves no key.
const markerSource = `redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], '') return redis.call('DEL', KEYS[1])`

// waitForReplicas writes and waits for replicas, if Options.Replicas asks for it. The end before
// it is done, so every error is a ReplicaError.
func (s *Store) waitForReplicas(ctx context.Context, at place, write writeCommand) error {
	if s.opt.Replicas == 0 {
		return nil
	}
	err := s.withRetry(ctx, at, idempotent, func(ctx context.Context) error {
		_, err := s.replicate(ctx, write)
		return err
	})
	if err != nil && !errors.As(err, new(*ReplicaError)) {
		err = &ReplicaError{Want: s.opt.Replicas, Unsaved: s.opt.Fsync, Err: err}
	}
	return err
}

// replicate writes and waits for replicas. WAIT counts the writes of its own connection and
// blocks it, so replicate uses a connection of its own. Such a connection does not follow
// redirections by itself. If the error is a ReplicaError, the write's reply is valid.
func (s *Store) replicate(ctx context.Context, write writeCommand) (rueidis.RedisResult, error) {
	written, err := s.replicateOn(ctx, s.plain, write)
	if redisErr, ok := rueidis.IsRedisErr(err); ok { // false for nil
		if addr, asks := redisErr.IsAsk(); asks { // the slot moves, and the key may be there
			if node := s.plain.Nodes()[addr]; node != nil {
				return s.replicateOn(ctx, node, write, "ASKING")
			}
		}
	}
	return written, err
}

// replicateOn is replicate on one client. It sends the commands in first before the write.
func (s *Store) replicateOn(
	ctx context.Context, client rueidis.Client, write writeCommand, first ...string,
) (written rueidis.RedisResult, err error) {
	err = client.Dedicated(func(c rueidis.DedicatedClient) error {
		ms := s.opt.ReplicaTimeout.Milliseconds()
		wait := c.B().Wait().Numreplicas(int64(s.opt.Replicas)).Timeout(ms).Build()
		if s.opt.Fsync {
			wait = c.B().Waitaof().Numlocal(1).Numreplicas(int64(s.opt.Replicas)).Timeout(ms).Build()
		}
		var commands []rueidis.Completed
		for _, name := range first {
			commands = append(commands, c.B().Arbitrary(name).Build())
		}
		replies := c.DoMulti(ctx, append(commands, write(c.B()), wait)...)[len(first):]
		if err := replies[0].Error(); err != nil {
			return err
		}
		written = replies[0]
		return s.countReplicas(replies[1])
	})
	return written, err
}

// countReplicas returns a ReplicaError if the reply of WAIT or WAITAOF counts too few.
func (s *Store) countReplicas(reply rueidis.RedisResult) error {
	e := &ReplicaError{Want: s.opt.Replicas, Unsaved: s.opt.Fsync}
	if !s.opt.Fsync {
		n, err := reply.AsInt64()
		e.Got, e.Err = int(n), err
	} else if n, err := reply.AsIntSlice(); err != nil || len(n) != 2 {
		e.Err = err
	} else {
		e.Got, e.Unsaved = int(n[1]), n[0] < 1
	}
	if e.Err == nil && e.Got >= e.Want && !e.Unsaved {
		return nil
	}
	return e
}
