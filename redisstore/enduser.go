package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// defaultLongest is how long a revocation is remembered if the caller does not say how long
// sessions live.
const defaultLongest = 10 * 365 * 24 * time.Hour

// errTooManyExcept refuses more exceptions than a revocation can name.
var errTooManyExcept = fmt.Errorf("redisstore: Selection.Except has more than %d sessions", driver.MaxExcept)

// removeBatch is how many revoked sessions one script removes. Meanwhile the server answers nobody.
// Nodes learn from it that the sessions are revoked, so open responses wait.
const removeBatch = 50

// EndUser implements driver.UserStore. One script ends all of a user's sessions at once: it notes
// the time, and names the sessions. Further scripts remove these, a batch at a time.
func (s *Store) EndUser(ctx context.Context, owner driver.Hash, which driver.Selection) ([]driver.ID, error) {
	bucket := driver.BucketOf(owner)
	if which.Only != nil {
		only := slices.DeleteFunc(slices.Clone(which.Only), func(id driver.ID) bool {
			return id.Bucket != bucket || slices.Contains(which.Except, id)
		})
		return s.endNamed(ctx, owner, only)
	}
	except := slices.DeleteFunc(slices.Clone(which.Except), func(id driver.ID) bool { return id.Bucket != bucket })
	if len(except) > driver.MaxExcept {
		return nil, errTooManyExcept
	}
	longest := which.MaxLifetime
	if longest == 0 {
		longest = defaultLongest
	}
	longest = max(longest, driver.MaxSignInTime)
	out, err := s.execEndUser(ctx, owner, "all", milliseconds(longest), except)
	if err != nil {
		return nil, err
	}
	s.ownRevocations.add(owner, out.revocation)
	ended, err := s.removeRevokedOf(ctx, owner, out.revocation, out.remaining)
	if err != nil {
		return ended, err
	}
	return ended, s.bucketOnReplicas(ctx, bucket)
}

// removeRevokedOf removes the sessions of a user that a revocation ended, the named ones first.
func (s *Store) removeRevokedOf(
	ctx context.Context, owner driver.Hash, revocation string, named []driver.ID,
) (ended []driver.ID, err error) {
	for len(named) > 0 {
		if err := ctx.Err(); err != nil {
			return ended, fmt.Errorf("redisstore: the user is signed out, but not all sessions are removed: call again: %w", err)
		}
		batch := named[:min(len(named), removeBatch)]
		out, err := s.execEndUser(ctx, owner, "again", revocation, batch)
		if err != nil {
			return ended, err
		}
		ended, named = append(ended, out.ended...), out.remaining
	}
	return ended, nil
}

// endNamed ends the named sessions of a user, whatever their age.
func (s *Store) endNamed(ctx context.Context, owner driver.Hash, ids []driver.ID) (ended []driver.ID, err error) {
	for batch := range slices.Chunk(ids, maxNamed) {
		out, err := s.execEndUser(ctx, owner, "only", "", batch)
		ended = append(ended, out.ended...)
		if err != nil {
			return ended, err
		}
	}
	return ended, s.bucketOnReplicas(ctx, driver.BucketOf(owner))
}

// userEnds is the reply of enduser.lua.
type userEnds struct {
	revocation     string
	ended, expired []driver.ID
	remaining      []driver.ID // revoked, but not removed
}

// execEndUser runs enduser.lua. With "all" the named sessions are to keep, else to end. From now on
// this process refuses the sessions that the script ended, or may have ended.
func (s *Store) execEndUser(
	ctx context.Context, owner driver.Hash, action, argument string, named []driver.ID,
) (out userEnds, err error) {
	bucket := driver.BucketOf(owner)
	end := named
	if action == "all" {
		end = nil
	}
	entries := make([]indexEntry, len(end)) // for events
	for i, id := range end {
		entries[i] = indexEntry{id.Selector.String(), id, float64(s.clock.now().UnixMilli())}
	}
	endedBefore := s.ends.snapshot(entries)
	args := []string{action, argument, s.global.argument()}
	var r reply
	lostReply, err := s.withRetryLost(ctx, place(bucket), idempotent, func(ctx context.Context) (err error) {
		r, err = s.exec(ctx, s.plain, endUserScript, s.endUserKeys(owner, named), args)
		return err
	})
	if s.near != nil && action == "all" {
		s.near.revocationsChanged(bucket) // before the invalidation message arrives
	}
	if err == nil {
		if out, err = parseUserEnds(&r, owner); err == nil {
			s.expiry.note(owner, out.expired, entries, r.now, endedBefore)
		}
	}
	// The lost reply may name the others.
	if err == nil && action == "only" && lostReply && len(out.ended) < len(end) {
		err = fmt.Errorf("%w: which sessions were ended is not known", driver.ErrUnknown)
	}
	over := out.ended
	if errors.Is(err, driver.ErrUnknown) && action == "again" {
		// Repeat the ends until they are certain. Not those of "only": the script did not check yet
		// that the sessions are the user's.
		over = end
	}
	for _, id := range over {
		s.ends.add(id, owner)
	}
	for _, id := range end {
		s.dropCopy(id)
	}
	return out, err
}

// endUserKeys returns the keys of enduser.lua.
func (s *Store) endUserKeys(owner driver.Hash, named []driver.ID) []string {
	keys := []string{s.keys.index(owner), s.keys.revocations(driver.BucketOf(owner))}
	for _, id := range named {
		keys = append(keys, s.keys.record(id))
	}
	return keys
}

func parseUserEnds(r *reply, owner driver.Hash) (out userEnds, err error) {
	if r.status != "ok" {
		return out, r.failure("user " + owner.String())
	}
	bucket := driver.BucketOf(owner)
	revocation, err1 := r.text(0)
	ended, err2 := r.sessions(1, bucket)
	expired, err3 := r.sessions(2, bucket)
	remaining, err4 := r.sessions(3, bucket)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return out, errReply
	}
	return userEnds{revocation, ended, expired, remaining}, nil
}
