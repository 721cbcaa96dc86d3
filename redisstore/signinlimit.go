package redisstore

import (
	"context"
	"slices"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

const (
	maxKeys    = 1000                     // how many keys a script takes
	signInKeys = 3                        // signin.lua takes these and the user's other sessions
	maxOthers  = maxKeys - 1 - signInKeys // leaves room for the browser's old session
)

// limitKeys leaves only so many entries of the index as signin.lua takes. A user with more sessions
// than that, or whose index has grown so far, is rare. Sessions over the limit then end in batches
// before the script runs, also if the script refuses the sign-in. Of the others, the newest are
// counted here: one that expires in between counts as alive.
func (x *signIn) limitKeys(ctx context.Context) error {
	x.uncounted = 0
	for range 2 {
		if len(x.entries) <= maxOthers {
			return nil
		}
		if err := x.removeEnded(ctx); err != nil {
			return err
		}
		if err := x.readEntries(ctx); err != nil {
			return err
		}
		others := x.others()
		extra := len(others) - x.in.MaxSessions
		if extra <= 0 {
			break
		}
		if x.in.RefuseExtra {
			return driver.ErrTooMany
		}
		for batch := range slices.Chunk(others[:extra], maxNamed) {
			out, err := x.execEndUser(ctx, x.owner, "only", "", batch)
			x.evicted = append(x.evicted, out.ended...)
			if err != nil {
				return err
			}
		}
		if err := x.readEntries(ctx); err != nil {
			return err
		}
	}
	if len(x.entries) <= maxOthers {
		return nil
	}
	old := x.old()
	kept := slices.Clone(x.entries[:maxOthers])
	for _, e := range x.entries[maxOthers:] {
		if e.name == old {
			kept = append(kept, e)
		}
	}
	x.uncounted = len(x.entries) - len(kept)
	x.entries = kept
	return nil
}

// others returns the user's sessions in the index, the oldest first, without the one to replace.
func (x *signIn) others() (ids []driver.ID) {
	old := x.old()
	for _, e := range x.entries {
		if e.name != old {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// removeEnded removes the user's sessions that do not exist any more, or that a revocation ended,
// from the index.
func (x *signIn) removeEnded(ctx context.Context) error {
	var revocation string
	err := x.withRetry(ctx, place(x.id.Bucket), readOnly, func(ctx context.Context) (err error) {
		get := x.plain.B().Hget().Key(x.keys.revocations(x.id.Bucket)).Field(x.owner.String()).Build()
		if revocation, err = x.plain.Do(ctx, get).ToString(); rueidis.IsRedisNil(err) {
			err = nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if revocation != "" {
		out, err := x.execEndUser(ctx, x.owner, "again", revocation, nil)
		if err == nil {
			_, err = x.removeRevokedOf(ctx, x.owner, revocation, out.remaining)
		}
		if err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(x.entries, maxNamed) {
		if err := x.cleanIndex(ctx, x.owner, batch); err != nil {
			return err
		}
	}
	return nil
}
