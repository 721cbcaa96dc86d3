package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// forever is how long a revocation is remembered if nobody says how long sessions live.
const forever = 10 * 365 * 24 * time.Hour

// EndUser implements driver.UserStore. All of a user's sessions end at once, by one script that notes the time. It also removes the
// sessions that this process guesses, and names the others, which are removed in turn, so many at a time.
func (s *Store) EndUser(ctx context.Context, owner driver.Hash, which driver.Selection) ([]driver.ID, error) {
	if which.Only != nil {
		only := slices.DeleteFunc(slices.Clone(which.Only), func(id driver.ID) bool {
			return id.Bucket != driver.BucketOf(owner) || slices.Contains(which.Except, id)
		})
		return s.endNamed(ctx, owner, only)
	}
	except := slices.DeleteFunc(slices.Clone(which.Except), func(id driver.ID) bool { return id.Bucket != driver.BucketOf(owner) })
	if len(except) > driver.MaxExcept {
		return nil, errTooManyKept
	}
	longest := which.MaxLifetime
	if longest == 0 {
		longest = forever
	}
	longest = max(longest, driver.MaxSignInTime)
	guess := s.rosters.take(owner, except)
	out, err := s.endRevoked(ctx, owner, "all", strconv.FormatInt(longest.Milliseconds(), 10), guess, except)
	if err != nil {
		return nil, err
	}
	ended, revocation := out.ended, out.revocation
	s.made.add(owner, revocation)
	for len(out.others) > 0 {
		if err := ctx.Err(); err != nil {
			return ended, fmt.Errorf("redisstore: not all sessions of the user are removed, call again: %w", err)
		}
		if out, err = s.endRevoked(ctx, owner, "again", revocation, out.others, nil); err != nil {
			return ended, err
		}
		ended = append(ended, out.ended...)
	}
	return ended, s.onReplicas(ctx, s.keys.mark(driver.BucketOf(owner)))
}

// endNamed ends the named sessions of a user, whatever their age.
func (s *Store) endNamed(ctx context.Context, owner driver.Hash, ids []driver.ID) (ended []driver.ID, err error) {
	for batch := range slices.Chunk(ids, maxNamed) {
		out, err := s.endRevoked(ctx, owner, "only", "", batch, nil)
		ended = append(ended, out.ended...)
		if err != nil {
			return ended, err
		}
	}
	return ended, s.onReplicas(ctx, s.keys.mark(driver.BucketOf(owner)))
}

// userEnds is what one script ended.
type userEnds struct {
	revocation             string
	ended, expired, others []driver.ID // others are revoked, and yet to be removed
}

// endRevoked runs enduser.lua. Sessions that it ended, or may have ended, are refused by this process from now on.
func (s *Store) endRevoked(ctx context.Context, owner driver.Hash, action, argument string, end, keep []driver.ID) (out userEnds, err error) {
	args := []string{owner.String(), action, argument, strconv.Itoa(len(end)), s.all.argument()}
	members := make([]member, len(end)) // for events
	for i, id := range end {
		members[i] = member{id.Selector.String(), id, float64(s.clock.now().UnixMilli())}
	}
	known := s.ends.among(members) // before those of this end are added
	named := slices.Concat(end, keep)
	for _, id := range named {
		args = append(args, id.Selector.String())
	}
	var r reply
	lost, err := s.tried(ctx, repeatable, func(ctx context.Context) (err error) {
		r, err = s.execPlain(ctx, endUserScript, s.userKeys(owner, named), args)
		return err
	})
	bucket := driver.BucketOf(owner)
	if s.near != nil && action != "only" {
		s.near.buckets[bucket].Add(1) // before the server tells
	}
	if err == nil {
		if out, err = parseUserEnds(&r, bucket); err == nil {
			s.expiry.gone(owner, out.expired, members, r.now, known)
		}
	}
	if err == nil && action == "only" && lost && len(out.ended) < len(end) { // what the others were, an answer said that was lost
		err = fmt.Errorf("%w: which sessions were ended is not known", driver.ErrUnknown)
	}
	over := out.ended
	if errors.Is(err, driver.ErrUnknown) && action == "again" {
		over = end // the end is repeated until it is certain. Of "only", the script has yet to say whose the sessions are
	}
	for _, id := range over {
		s.ends.add(id, owner)
	}
	for _, id := range end {
		s.forget(id)
	}
	return out, err
}

// userKeys are the keys of enduser.lua.
func (s *Store) userKeys(owner driver.Hash, named []driver.ID) []string {
	keys := []string{s.keys.index(owner), s.keys.revocations(driver.BucketOf(owner))}
	for _, id := range named {
		keys = append(keys, s.keys.session(id))
	}
	return keys
}

func parseUserEnds(r *reply, bucket uint16) (out userEnds, err error) {
	if r.status != "ok" || len(r.rest) < 3 {
		return out, errReply
	}
	revocation, err1 := r.rest[0].ToString()
	ended, err2 := r.rest[1].AsInt64()
	expired, err3 := r.rest[2].AsInt64()
	names, err4 := sessionNames(bucket, r.rest[3:])
	if errors.Join(err1, err2, err3, err4) != nil || ended < 0 || expired < 0 || ended+expired > int64(len(names)) {
		return out, errReply
	}
	return userEnds{revocation, names[:ended], names[ended : ended+expired], names[ended+expired:]}, nil
}
