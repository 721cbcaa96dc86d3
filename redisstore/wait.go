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
	return s.replicate(ctx, func(b rueidis.Builder) rueidis.Completed {
		return b.Eval().Script(markSource).Numkeys(1).Key(key).Build()
	})
}

// replicate writes and waits for replicas, if Options.Replicas asks for it, on a connection of its own: WAIT speaks of the writes of its
// connection, and blocks it. The change that it comes after was done, so what goes wrong here is a ReplicaError.
func (s *Store) replicate(ctx context.Context, write func(rueidis.Builder) rueidis.Completed) error {
	if s.opt.Replicas == 0 {
		return nil
	}
	err := s.attempt(ctx, repeatable, func(ctx context.Context) error {
		return s.plain.Dedicated(func(c rueidis.DedicatedClient) error {
			ms := s.opt.ReplicaTimeout.Milliseconds()
			wait := c.B().Wait().Numreplicas(int64(s.opt.Replicas)).Timeout(ms).Build()
			if s.opt.Fsync {
				wait = c.B().Waitaof().Numlocal(1).Numreplicas(int64(s.opt.Replicas)).Timeout(ms).Build()
			}
			res := c.DoMulti(ctx, write(c.B()), wait)
			if err := res[0].Error(); err != nil {
				return err
			}
			return s.counted(res[1])
		})
	})
	if err != nil && !errors.As(err, new(*ReplicaError)) {
		err = &ReplicaError{Want: s.opt.Replicas, Unsaved: s.opt.Fsync, Err: err}
	}
	return err
}

// markSource writes, whatever is there: to delete what is gone already is no write, and WAIT would have nothing to wait for. It begins with a
// DEL, since the change that it comes after may be an end, which must work where memory is full.
const markSource = `redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], '') return redis.call('DEL', KEYS[1])`

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

// ReplicaError says that an end or a sign-in was done by the primary, and acknowledged by fewer replicas than Options.Replicas asks for. A failover
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
