package redisstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// onReplicas waits for replicas after a change in the slot of a key, if Options.Replicas asks for it. Replication is one stream in order,
// so a replica that has what is written here has the change, too. The key is gone afterwards.
func (s *Store) onReplicas(ctx context.Context, key string) error {
	return s.waitAfter(ctx, func(b rueidis.Builder) rueidis.Completed {
		return b.Eval().Script(markSource).Numkeys(1).Key(key).Build()
	})
}

// markSource writes, whatever is there: to delete what is gone already is no write, and WAIT would have nothing to wait for. It begins with a
// DEL, since the change that it comes after may be an end, which must work where memory is full.
const markSource = `redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], '') return redis.call('DEL', KEYS[1])`

// waitAfter writes and waits for replicas, if Options.Replicas asks for it. The change that it comes after was done, so what goes wrong here is
// a ReplicaError.
func (s *Store) waitAfter(ctx context.Context, write func(rueidis.Builder) rueidis.Completed) error {
	if s.opt.Replicas == 0 {
		return nil
	}
	err := s.attempt(ctx, repeatable, func(ctx context.Context) error {
		_, err := s.replicate(ctx, write)
		return err
	})
	if err != nil && !errors.As(err, new(*ReplicaError)) {
		err = &ReplicaError{Want: s.opt.Replicas, Unsaved: s.opt.Fsync, Err: err}
	}
	return err
}

// replicate writes and waits for replicas, on a connection of its own: WAIT speaks of the writes of its connection, and blocks it. A
// connection of that kind follows no redirection by itself. A ReplicaError comes with the answer to what was written.
func (s *Store) replicate(ctx context.Context, write func(rueidis.Builder) rueidis.Completed) (rueidis.RedisResult, error) {
	written, err := s.replicateOn(ctx, s.plain, write)
	if redisErr, ok := rueidis.IsRedisErr(err); ok { // nil has none
		if addr, asks := redisErr.IsAsk(); asks { // the slot moves, and the key is there already, if anywhere
			if node := s.plain.Nodes()[addr]; node != nil {
				return s.replicateOn(ctx, node, write, "ASKING")
			}
		}
	}
	return written, err
}

// replicateOn is replicate on one client; first are commands without arguments that go before.
func (s *Store) replicateOn(ctx context.Context, client rueidis.Client, write func(rueidis.Builder) rueidis.Completed, first ...string) (written rueidis.RedisResult, err error) {
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
		res := c.DoMulti(ctx, append(commands, write(c.B()), wait)...)[len(first):]
		if err := res[0].Error(); err != nil {
			return err
		}
		written = res[0]
		return s.counted(res[1])
	})
	return written, err
}

// counted turns what WAIT or WAITAOF replied, after the end was done, into an error if it is too little.
func (s *Store) counted(res rueidis.RedisResult) error {
	e := &ReplicaError{Want: s.opt.Replicas, Unsaved: s.opt.Fsync}
	if !s.opt.Fsync {
		n, err := res.AsInt64()
		e.Got, e.Err = int(n), err
	} else if n, err := res.AsIntSlice(); err != nil || len(n) != 2 {
		e.Err = err
	} else {
		e.Got, e.Unsaved = int(n[1]), n[0] < 1
	}
	if e.Err == nil && e.Got >= e.Want && !e.Unsaved {
		return nil
	}
	return e
}

// ReplicaError says that an end was done by the primary, and acknowledged by fewer replicas than Options.Replicas asks for. A failover
// to one of the others could undo it; the store repeats it then. It is a driver.ErrUnknown: what was asked for may yet come true.
type ReplicaError struct {
	Want, Got int
	Unsaved   bool  // with Options.Fsync: the primary has not written it to its disk in time
	Err       error // why nobody counted, or nil
}

// Error says how many replicas answered.
func (e *ReplicaError) Error() string {
	text := fmt.Sprintf("redisstore: it was done, and %d of %d replicas acknowledged it in time", e.Got, e.Want)
	if e.Unsaved {
		text += "; the primary has not written it to its disk"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is reports that the outcome is not what was asked for, nor nothing.
func (e *ReplicaError) Is(target error) bool { return target == driver.ErrUnknown }

// Unwrap returns Err.
func (e *ReplicaError) Unwrap() error { return e.Err }
