package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

var _ driver.OwnedEnder = (*Store)(nil)

// End implements driver.Store. The session is refused by this process from now on, whatever the servers say, and the end is repeated:
// see ends.
func (s *Store) End(ctx context.Context, id driver.ID) error {
	_, err := s.EndOwned(ctx, id, driver.Hash{})
	return err
}

// EndOwned implements driver.OwnedEnder. With the owner it is one round trip, as [Store.End] it takes two.
func (s *Store) EndOwned(ctx context.Context, id driver.ID, owner driver.Hash) (bool, error) {
	defer s.ends.making(id, owner)()
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout) // for both
	defer cancel()
	if owner == (driver.Hash{}) {
		if owner = s.ownerOf(ctx, id); owner != (driver.Hash{}) {
			s.ends.add(id, owner)
		}
	}
	s.forget(id)
	ended, err := s.remove(ctx, id, owner)
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

// remove deletes a session, with its entry in the index, and waits for replicas if that was asked for.
func (s *Store) remove(ctx context.Context, id driver.ID, owner driver.Hash) (ended bool, err error) {
	keys, args := []string{s.keys.session(id)}, []string(nil)
	if owner != (driver.Hash{}) {
		keys, args = append(keys, s.keys.index(owner)), []string{id.Selector.String()}
	}
	var r reply
	err = s.attempt(ctx, repeatable, func(ctx context.Context) (err error) {
		if r, err = s.execKeys(ctx, endScript, keys, args); !moving(err) {
			return err
		}
		// The two may be on two servers. First the index, or a visitor of it would take the session for one that expired.
		if err = s.plain.Do(ctx, s.plain.B().Zrem().Key(keys[1]).Member(args[0]).Build()).Error(); err == nil {
			r, err = s.execKeys(ctx, endScript, keys[:1], nil)
		}
		return err
	})
	if err == nil {
		err = s.onReplicas(ctx, keys[0]) // which removes it once more: a primary that was promoted meanwhile may have it still
	}
	if err != nil {
		return false, err
	}
	if len(r.rest) == 0 {
		return false, errReply
	}
	alive, err := r.rest[0].AsInt64()
	if err != nil {
		return false, errReply
	}
	return alive == 1, nil
}
