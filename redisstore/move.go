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
	keys, args := s.leaveArgs(id, in)
	var r reply
	err := s.withRetry(ctx, place(in.From.ID.Bucket), idempotent, func(ctx context.Context) (err error) {
		if r, err = s.exec(ctx, s.plain, moveScript, keys, args); slotMoving(err) {
			r, err = s.execWhileSlotMoves(ctx, moveScript, in.From.ID, keys[:1], args)
		}
		return err
	})
	s.dropCopy(in.From.ID)
	if err != nil {
		return nil, err
	}
	return closedRecord(&r, in)
}

// leaveArgs returns the keys and arguments of move.lua for the step that closes the old session.
func (s *Store) leaveArgs(id driver.ID, in *driver.SignIn) (keys, args []string) {
	key := s.keys.record(in.From.ID)
	keys = []string{key, s.keys.revocationsOf(key)}
	return keys, []string{"leave", id.Selector.String(), in.From.Verifier.String(), s.global.argument()}
}

// closedRecord returns the record in the reply to that step.
func closedRecord(r *reply, in *driver.SignIn) (*driver.Record, error) {
	switch r.status {
	case "ok":
	case "gone", "moved":
		return nil, nil
	default:
		return nil, r.failure("session " + in.From.ID.String())
	}
	values, err := r.hash(0)
	if err != nil {
		return nil, err
	}
	record, err := decodeHash(values)
	if err != nil {
		return nil, fmt.Errorf("redisstore: session %s: %w", in.From.ID, err)
	}
	return record, nil
}

// leftArgs returns the keys and arguments of move.lua for the step that replaces the old session
// by a marker. owner is the old session's.
func (s *Store) leftArgs(id driver.ID, in *driver.SignIn, owner driver.Hash) (keys, args []string) {
	return s.moveKeys(in.From.ID, owner), []string{"left", id.Selector.String()}
}

// reopenOld opens the old session to writers again. If it cannot, the session opens by itself.
func (s *Store) reopenOld(ctx context.Context, id driver.ID, in *driver.SignIn) {
	if in.From == nil {
		return
	}
	keys, args := []string{s.keys.record(in.From.ID)}, []string{"stay", id.Selector.String()}
	_ = s.withRetry(ctx, place(in.From.ID.Bucket), idempotent, func(ctx context.Context) error {
		_, err := s.exec(ctx, s.plain, moveScript, keys, args)
		return err
	})
}

// moveKeys returns the keys of move.lua for the steps that remove a session from its user's index.
func (s *Store) moveKeys(id driver.ID, owner driver.Hash) []string {
	keys := []string{s.keys.record(id)}
	if owner != (driver.Hash{}) {
		keys = append(keys, s.keys.index(owner))
	}
	return keys
}

// ownerOf returns a record's owner. It returns the zero Hash for nil and for anonymous sessions.
func ownerOf(r *driver.Record) (owner driver.Hash) {
	if r != nil && r.Principal != nil {
		owner = r.Principal.Owner
	}
	return owner
}
