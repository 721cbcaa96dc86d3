package redisstore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/coatcheck-go/session/driver"
)

var _ driver.Joiner = (*Store)(nil)

// Join implements driver.Joiner. While the slot moves to another server it returns driver.ErrBusy:
// the script needs both hashes on one server, and a request need not wait for that.
func (s *Store) Join(
	ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
) (taken, stored *driver.Result, err error) {
	if err := s.ends.refusal(from); err != nil {
		return nil, nil, err
	}
	if err := driver.CheckJoin(take, put); err != nil {
		return nil, nil, err
	}
	if err := s.syncGlobalRevocation(ctx); err != nil {
		return nil, nil, err
	}
	session := s.keys.record(from)
	keys := []string{session, s.keys.record(into), s.keys.revocationsOf(session)}
	args := s.joinArgs(take, put)
	var r reply
	err = s.withRetry(ctx, place(from.Bucket), idempotent, func(ctx context.Context) (err error) {
		if r, err = s.exec(ctx, s.tracked, joinScript, keys, args); err == nil && r.status == "ok" {
			r, err = r.withRevision()
		}
		if slotMoving(err) {
			r, err = reply{status: "busy"}, nil
		}
		return err
	})
	if err != nil {
		s.dropCopy(from)
		s.dropCopy(into)
		return nil, nil, aboutSession(from, err)
	}
	switch r.status {
	case "ok":
	case "busy": // perhaps after a try whose reply was lost
		s.dropCopy(from)
		s.dropCopy(into)
		return nil, nil, driver.ErrBusy
	case "none":
		s.dropCopy(into)
		return nil, nil, driver.ErrNoUserData
	case "refused": // perhaps because an earlier try was made, and its reply was lost
		s.dropCopy(from)
		s.dropCopy(into)
		return nil, nil, r.joinRefused(take, put)
	default:
		s.dropCopy(from)
		return nil, nil, r.sessionError(from)
	}
	revision, err := r.integer(0)
	if err != nil {
		return nil, nil, err
	}
	taken = s.updateCopy(from, take, &r)
	r.revision = uint64(revision)
	return taken, s.updateCopy(into, put, &r), nil
}

// joinArgs returns the arguments of join.lua.
func (s *Store) joinArgs(take, put *driver.Change) []string {
	limit := put.MaxSize
	if limit == 0 {
		limit = driver.DefaultMaxSize
	}
	args := make([]string, 0, 5+2*len(take.Ops)+3*len(put.Ops))
	args = append(args, take.Verifier.String(), strconv.Itoa(limit), s.global.argument(), s.trackedArg(), strconv.Itoa(len(take.Ops)))
	for i := range take.Ops {
		args = append(args, string(take.Ops[i].Key), string(take.Ops[i].Old))
	}
	for i := range put.Ops {
		op := &put.Ops[i]
		args = append(args, string(op.Key), optional(op.Old), string(op.Value))
	}
	return args
}

// joinRefused turns the reply {"refused", which, index, why, present} into a driver.OpError.
func (r *reply) joinRefused(take, put *driver.Change) error {
	which, err := r.text(0)
	if err != nil {
		return err
	}
	r.rest = r.rest[1:]
	if which == "session" {
		return r.refused(take)
	}
	if which != "data" {
		return fmt.Errorf("%w: %.40q", errReply, which)
	}
	return r.refused(put)
}
