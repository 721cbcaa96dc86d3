package redisstore

import (
	"context"
	"fmt"

	"github.com/redis/rueidis"
)

// endOnReplicas deletes a key and waits for replicas, on a connection of its own: WAIT speaks of the writes of its connection, and
// blocks it. Too few answers are an error, though the key is gone from the primary.
func (s *Store) endOnReplicas(ctx context.Context, key string) error {
	return s.plain.Dedicated(func(c rueidis.DedicatedClient) error {
		ms := s.opt.ReplicaTimeout.Milliseconds()
		wait := c.B().Wait().Numreplicas(int64(s.opt.Replicas)).Timeout(ms).Build()
		if s.opt.Fsync {
			wait = c.B().Waitaof().Numlocal(1).Numreplicas(int64(s.opt.Replicas)).Timeout(ms).Build()
		}
		res := c.DoMulti(ctx, c.B().Del().Key(key).Build(), wait)
		if err := res[0].Error(); err != nil {
			return err
		}
		local, replicas := int64(1), int64(0)
		var err error
		if s.opt.Fsync {
			var n []int64
			if n, err = res[1].AsIntSlice(); err == nil && len(n) == 2 {
				local, replicas = n[0], n[1]
			}
		} else {
			replicas, err = res[1].AsInt64()
		}
		if err != nil {
			return err
		}
		if local < 1 || replicas < int64(s.opt.Replicas) {
			return &ReplicaError{Want: s.opt.Replicas, Got: int(replicas)}
		}
		return nil
	})
}

// ReplicaError says that an end was done by the primary, and acknowledged by fewer replicas than Options.Replicas asks for. A failover
// to one of the others could undo it; the store repeats it then.
type ReplicaError struct{ Want, Got int }

func (e *ReplicaError) Error() string {
	return fmt.Sprintf("redisstore: the end was done, and %d of %d replicas acknowledged it in time", e.Got, e.Want)
}
