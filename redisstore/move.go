package redisstore

import (
	"context"
	"fmt"

	"github.com/coatcheck-go/session/driver"
)

// closeOld closes the browser's old session to writers, and returns it. It returns nil if there is
// no such session.
func (s *Store) closeOld(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Record, error) {
	if in.From == nil || s.ends.has(in.From.ID) {
		return nil, nil
	}
	r, err := s.execMove(ctx, "leave", id, in, nil)
	s.dropCopy(in.From.ID)
	switch {
	case err != nil:
		return nil, err
	case r.status != "ok":
		return nil, nil
	case len(r.rest)%2 != 0:
		return nil, errReply
	}
	values := make(map[string]string, len(r.rest)/2)
	for i := 0; i < len(r.rest); i += 2 {
		k, err1 := r.rest[i].ToString()
		v, err2 := r.rest[i+1].ToString()
		if err1 != nil || err2 != nil {
			return nil, errReply
		}
		values[k] = v
	}
	record, err := decodeHash(values)
	if err != nil {
		return nil, fmt.Errorf("redisstore: session %s: %w", in.From.ID, err)
	}
	return record, nil
}

// execMove runs a step of move.lua for a sign-in at id. old is the old session's record, for the
// steps that remove it from its user's index.
func (s *Store) execMove(
	ctx context.Context, step string, id driver.ID, in *driver.SignIn, old *driver.Record,
) (reply, error) {
	if in.From == nil {
		return reply{}, nil
	}
	keys, more := s.moveKeys(in.From.ID, ownerOf(old))
	if step == "leave" {
		keys, more = append(keys, s.keys.revocationsOf(keys[0])), []string{s.global.argument()}
	}
	args := append([]string{step, id.Selector.String(), in.From.Verifier.String()}, more...)
	var r reply
	err := s.withRetry(ctx, place(in.From.ID.Bucket), idempotent, func(ctx context.Context) (err error) {
		if r, err = s.exec(ctx, s.tracked, moveScript, keys, args); step == "leave" && slotMoving(err) {
			r, err = s.execWhileSlotMoves(ctx, moveScript, in.From.ID, keys[:1], args)
		}
		return err
	})
	if err != nil {
		return reply{}, err
	}
	return r, nil
}

// moveKeys returns the keys of move.lua, and the argument that belongs to the second key.
func (s *Store) moveKeys(id driver.ID, owner driver.Hash) (keys, more []string) {
	keys = []string{s.keys.session(id)}
	if owner == (driver.Hash{}) {
		return keys, nil
	}
	return append(keys, s.keys.index(owner)), []string{id.Selector.String()}
}

// ownerOf returns a record's owner. It returns the zero Hash for nil and for anonymous sessions.
func ownerOf(r *driver.Record) (owner driver.Hash) {
	if r != nil && r.Principal != nil {
		owner = r.Principal.Owner
	}
	return owner
}
