package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

var _ driver.EndReporter = (*Store)(nil)

// End implements driver.Store. From now on this process refuses the session, whatever the servers
// say. It repeats the end after a failover: see tombstones.
func (s *Store) End(ctx context.Context, id driver.ID) error {
	_, err := s.EndAndReport(ctx, id, driver.Hash{}, driver.Attempt{})
	return err
}

// EndAndReport implements driver.EndReporter. It takes one round trip, where [Store.End] takes two
// to find the owner.
func (s *Store) EndAndReport(
	ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt,
) (bool, error) {
	found := notKnown
	done := s.ends.begin(id, owner, owner != (driver.Hash{}) || s.near != nil && s.near.knows(id))
	defer func() { done(found) }()
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout) // for both steps
	defer cancel()
	if owner == (driver.Hash{}) {
		if owner = s.readOwner(ctx, id); owner != (driver.Hash{}) {
			s.ends.add(id, owner)
		}
	}
	s.dropCopy(id)
	ended, missing, err := s.removeSession(ctx, id, owner, attempt)
	switch {
	case ended, errors.Is(err, driver.ErrMoved):
		found = existed
	case missing:
		found = absent
	}
	if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, driver.ErrMoved) {
		err = fmt.Errorf("%w; the store repeats the end", err)
	}
	return ended, err
}

// readOwner returns the owner of a session. It returns the zero Hash for an anonymous session, and
// if the server does not answer.
func (s *Store) readOwner(ctx context.Context, id driver.ID) (owner driver.Hash) {
	limit := s.opt.Timeout / 2 // the end itself gets the rest
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var text string
	err := s.withRetry(ctx, place(id.Bucket), readOnly, func(ctx context.Context) (err error) {
		text, err = s.plain.Do(ctx, s.plain.B().Hget().Key(s.keys.record(id)).Field("@u").Build()).ToString()
		if rueidis.IsRedisNil(err) || isWrongType(err) {
			err = nil
		}
		return err
	})
	if err != nil || len(text) < nameWidth {
		return owner
	}
	if h, err := driver.ParseHash(text[:nameWidth]); err == nil && driver.BucketOf(h) == id.Bucket {
		owner = h
	}
	return owner
}

// removeSession deletes a session and its entry in the index, and waits for replicas if
// Options.Replicas asks for it. A ReplicaError means that the end is done. absent says that there
// certainly was no such session: no lost reply may have said otherwise. If a sign-in replaced the
// session, the error is driver.ErrMoved.
func (s *Store) removeSession(
	ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt,
) (ended, absent bool, err error) {
	keys := []string{s.keys.record(id)}
	if owner != (driver.Hash{}) {
		keys = append(keys, s.keys.index(owner))
	}
	args := []string{driver.Hash(attempt).String(), digit(s.opt.Replicas > 0)}
	var r reply
	var tooFew error
	lostReply, err := s.withRetryLost(ctx, place(id.Bucket), idempotent, func(ctx context.Context) (err error) {
		if r, tooFew, err = s.execEnd(ctx, keys, args); !slotMoving(err) {
			return err
		}
		// The two keys may be on two servers now. The index is first: a session that only the index
		// names counts as expired.
		err = s.plain.Do(ctx, s.plain.B().Zrem().Key(keys[1]).Member(id.Selector.String()).Build()).Error()
		if err == nil {
			r, tooFew, err = s.execEnd(ctx, keys[:1], args)
		}
		return err
	})
	switch {
	case err != nil:
		return false, false, err
	case r.status == "moved": // repetitions must keep the "moved" marker, too
		s.ends.addMoved(id, owner)
		return false, false, errors.Join(driver.ErrMoved, tooFew)
	case r.status != "ok":
		return false, false, r.failure("session " + id.String())
	}
	alive, err := r.integer(0)
	if err != nil {
		return false, false, err
	}
	return alive == 1, alive == 0 && tooFew == nil && !lostReply, tooFew
}

// execEnd runs end.lua. tooFew is a ReplicaError or nil.
func (s *Store) execEnd(ctx context.Context, keys, args []string) (r reply, tooFew, err error) {
	if s.opt.Replicas == 0 {
		r, err = s.exec(ctx, s.tracked, endScript, keys, args)
		return r, nil, err
	}
	asked := time.Now()
	res, err := s.replicate(ctx, func(b rueidis.Builder) rueidis.Completed {
		return b.Eval().Script(endSource).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
	})
	if errors.As(err, new(*ReplicaError)) {
		tooFew, err = err, nil
	}
	if err == nil {
		r, err = s.parseReply(res, asked)
	}
	return r, tooFew, err
}
