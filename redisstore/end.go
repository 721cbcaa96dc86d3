package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

var _ driver.EndReporter = (*Store)(nil)

// End implements driver.Store. The session is refused by this process from now on, whatever the servers say, and the end is repeated:
// see ends.
func (s *Store) End(ctx context.Context, id driver.ID) error {
	_, err := s.EndAndReport(ctx, id, driver.Hash{})
	return err
}

// EndAndReport implements driver.EndReporter. With the owner it is one round trip, as [Store.End] it takes two.
func (s *Store) EndAndReport(ctx context.Context, id driver.ID, owner driver.Hash) (bool, error) {
	none := false
	done := s.ends.making(id, owner)
	defer func() { done(none) }()
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout) // for both
	defer cancel()
	if owner == (driver.Hash{}) {
		if owner = s.ownerOf(ctx, id); owner != (driver.Hash{}) {
			s.ends.add(id, owner)
		}
	}
	s.forget(id)
	ended, none, err := s.remove(ctx, id, owner)
	if err != nil && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w; the end is being repeated", err)
	}
	return ended, err
}

// ownerOf returns whose session it is: the zero Hash if nobody's, or if the server does not say.
func (s *Store) ownerOf(ctx context.Context, id driver.ID) (owner driver.Hash) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout/2) // the rest is for the end itself
	defer cancel()
	var text string
	err := s.attempt(ctx, reading, func(ctx context.Context) (err error) {
		text, err = s.plain.Do(ctx, s.plain.B().Hget().Key(s.keys.session(id)).Field("@principal").Build()).ToString()
		if rueidis.IsRedisNil(err) {
			err = nil
		}
		return err
	})
	var principal struct {
		Owner string `json:"owner"`
	}
	if err != nil || text == "" || json.Unmarshal([]byte(text), &principal) != nil {
		return owner
	}
	if h, err := driver.ParseHash(principal.Owner); err == nil && driver.BucketOf(h) == id.Bucket {
		owner = h
	}
	return owner
}

// remove deletes a session, with its entry in the index, and waits for replicas if that was asked for. Where too few of them answer, it was
// done all the same. none says that there was no such session for sure: no answer was lost that may have said otherwise.
func (s *Store) remove(ctx context.Context, id driver.ID, owner driver.Hash) (ended, none bool, err error) {
	keys, args := []string{s.keys.session(id)}, []string{""}
	if owner != (driver.Hash{}) {
		keys, args[0] = append(keys, s.keys.index(owner)), id.Selector.String()
	}
	var r reply
	var few error
	lost, err := s.tried(ctx, repeatable, func(ctx context.Context) (err error) {
		if r, few, err = s.endWith(ctx, keys, args); !moving(err) {
			return err
		}
		// The two may be on two servers. First the index, or a visitor of it would take the session for one that expired.
		if err = s.plain.Do(ctx, s.plain.B().Zrem().Key(keys[1]).Member(args[0]).Build()).Error(); err == nil {
			r, few, err = s.endWith(ctx, keys[:1], args)
		}
		return err
	})
	switch {
	case err != nil:
		return false, false, err
	case r.status == "moved": // a repetition must not take the word of that away, either
		s.ends.move(id, owner)
		return false, false, few
	case r.status != "ok" || len(r.rest) == 0:
		return false, false, errReply
	}
	alive, err := r.rest[0].AsInt64()
	if err != nil {
		return false, false, errReply
	}
	return alive == 1, alive == 0 && few == nil && !lost, few
}

// endWith runs end.lua; few is a ReplicaError, or nil.
func (s *Store) endWith(ctx context.Context, keys, args []string) (r reply, few, err error) {
	if s.opt.Replicas == 0 {
		r, err = s.execKeys(ctx, endScript, keys, args)
		return r, nil, err
	}
	asked := time.Now()
	args = append(args[:1:1], "write")
	res, err := s.replicate(ctx, func(b rueidis.Builder) rueidis.Completed {
		return b.Eval().Script(endSource).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
	})
	if errors.As(err, new(*ReplicaError)) {
		few, err = err, nil
	}
	if err == nil {
		r, err = s.replied(res, asked)
	}
	return r, few, err
}
