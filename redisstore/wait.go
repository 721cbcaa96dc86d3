package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// endOnReplicas ends a session and waits for replicas. Too few answers are an error, though the session is gone from the primary.
func (s *Store) endOnReplicas(ctx context.Context, keys, args []string) (reply, error) {
	asked := time.Now()
	res, err := s.replicate(ctx, func(b rueidis.Builder) rueidis.Completed {
		return b.Eval().Script(endSource).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
	})
	if few := new(ReplicaError); err != nil && !errors.As(err, &few) {
		return reply{}, err
	}
	r, err2 := s.replied(res, asked)
	return r, cmp.Or(err, err2)
}

// replicate writes and waits for replicas, on a connection of its own: WAIT speaks of the writes of its connection, and blocks it.
func (s *Store) replicate(ctx context.Context, write func(rueidis.Builder) rueidis.Completed) (written rueidis.RedisResult, err error) {
	err = s.plain.Dedicated(func(c rueidis.DedicatedClient) error {
		ms := s.opt.ReplicaTimeout.Milliseconds()
		wait := c.B().Wait().Numreplicas(int64(s.opt.Replicas)).Timeout(ms).Build()
		if s.opt.Fsync {
			wait = c.B().Waitaof().Numlocal(1).Numreplicas(int64(s.opt.Replicas)).Timeout(ms).Build()
		}
		res := c.DoMulti(ctx, write(c.B()), wait)
		if err := res[0].Error(); err != nil {
			return err
		}
		written = res[0]
		return s.counted(res[1])
	})
	return written, err
}

// onReplicas waits for replicas after a change in the slot of a key, if Options.Replicas asks for it. Replication is one stream in order,
// so a replica that has what is written here has the change, too.
func (s *Store) onReplicas(ctx context.Context, key string) error {
	if s.opt.Replicas == 0 {
		return nil
	}
	return s.attempt(ctx, repeatable, func(ctx context.Context) error {
		_, err := s.replicate(ctx, func(b rueidis.Builder) rueidis.Completed {
			return b.Eval().Script(markSource).Numkeys(1).Key(key).Build()
		})
		return err
	})
}

// markSource writes something. It begins with a DEL, since the change that it comes after may be an end, which must work where memory is full.
const markSource = `redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], '', 'PX', 1000)`

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
	Err       error // why the server did not count, or nil
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
