package driver

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Joiner is a Store that keeps the data of users beside the sessions: one record for each owner,
// under [UserDataID]. Without it, users have no data.
//
// Load, Create, Apply, Touch and the optional interfaces for reading and watching take the id of
// user data as that of a session. Two things differ. No revocation, no EndUser and no EndAll
// concerns user data. And no list, no count and no report of expiry has it: it is no session. The
// caller never ends user data, and never renews its verifier.
type Joiner interface {
	UserStore

	// Join applies take to the session from, and put to the user data into, in one step: both or
	// neither. Both have the same bucket. [PlanJoin] says what becomes of the records. All
	// operations are comparisons, so a caller may repeat a Join whose outcome it does not know:
	// what was done already is refused with ErrConflict.
	//
	// Errors: ErrNotFound and ErrMoved about the session, as in Apply. ErrNoUserData if there is no
	// live record under into. An *OpError if an operation of either change is refused. ErrBusy.
	// Nothing is changed then.
	Join(ctx context.Context, from ID, take *Change, into ID, put *Change) (taken, stored *Result, err error)
}

// Errors of Join.
var (
	// ErrNoUserData: the user data was never created, or has expired.
	ErrNoUserData = errors.New("the user has no data")
	// ErrBusy: the session's token is being replaced, and the store does not join then. The caller
	// joins in a later request.
	ErrBusy = errors.New("the session's token is being replaced")
)

// UserDataLifetime is the lifetime of user data. Only its idle limit is meant to end it.
const UserDataLifetime = 100 * 365 * 24 * time.Hour

// UserDataID returns the id of an owner's data. The owner is also the hash of its verifier, which
// never changes.
func UserDataID(owner Hash) ID { return ID{Bucket: BucketOf(owner), Selector: owner, UserData: true} }

// CheckJoin returns an *[OpError] if a Join of these changes is invalid for all records. All
// operations are swaps. Those of take remove a value, and those of put set one. No key comes twice
// in one change. Neither change has a renewal.
func CheckJoin(take, put *Change) error {
	for _, c := range []*Change{take, put} {
		if err := c.Check(); err != nil {
			return err
		}
		seen := make(map[Key]struct{}, len(c.Ops))
		for i := range c.Ops {
			op := &c.Ops[i]
			_, again := seen[op.Key]
			seen[op.Key] = struct{}{}
			fits := op.Value != nil
			if c == take {
				fits = op.Value == nil && op.Old != nil
			}
			if op.Kind != Swap || again || !fits || c.Renew != nil {
				return &OpError{Index: i, Key: op.Key, Err: fmt.Errorf("%w: not for a join", ErrOp)}
			}
		}
	}
	return nil
}

// PlanJoin returns the next versions of both records of a [Joiner].Join. Both records are live. A
// store calls it, and stores both versions, in one transaction. Errors: ErrMoved and *[OpError].
func PlanJoin(now time.Time, from *Record, take *Change, into *Record, put *Change) (taken, stored *Result, err error) {
	if err := CheckJoin(take, put); err != nil {
		return nil, nil, err
	}
	if taken, err = from.Apply(now, take); err != nil {
		return nil, nil, err
	}
	if stored, err = into.Apply(now, put); err != nil {
		return nil, nil, err
	}
	return taken, stored, nil
}
