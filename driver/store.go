package driver

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Store keeps the records of sessions. These rules hold for all methods:
//
//   - Concurrency. All methods may be called at the same time. Each takes effect at one moment
//     between its call and its return. A method that is called after another one has returned sees
//     the effect of that one, at least within this process.
//   - Expiry. No method finds a record that has expired, to the millisecond, even if the store has
//     not removed it yet.
//   - Ownership. The caller does not modify a record that a store returns, because records are
//     shared. The caller does not modify what it passed in either, so a store may keep it. A store
//     does not modify what it is given.
//   - Context. ctx bounds how long the caller waits. It does not undo the effect. A store that
//     talks to a server also has a timeout of its own.
//   - Errors. Each method lists the errors that have a meaning of their own. [ErrUnknown] means
//     that the outcome is unknown: the change may have been made, or may be made later. Every other
//     error means that the store could not answer and did nothing.
//   - Repetition. After ErrUnknown the caller may repeat Create, SignIn, End, EndUser, EndAll and a
//     change with a renewal: a store recognizes what it has already done. It never repeats any
//     other change.
type Store interface {
	// Load returns the record and the store's time. It never writes. The result is that of
	// [LiveRecord].
	//
	// Errors: ErrNotFound if there is no live record. ErrMoved if a sign-in replaced the session
	// less than SupersededFor ago. An *EndedError, which is also an ErrNotFound, if the session
	// ended less than SupersededFor ago: by End, EndUser, EndAll or the limit of a SignIn, but not
	// by expiry. After a restart of the store these errors may be missing.
	Load(ctx context.Context, id ID) (*Record, time.Time, error)

	// Create stores a new record, which [PlanCreate] makes. A Create that repeats the one that made
	// the record, with the same RecordSpec.Secret, succeeds and changes nothing.
	//
	// Most callers draw ids at random. A caller that continues the session of another program
	// derives the id from that session, and may be late: the session with the id may have ended
	// meanwhile.
	//
	// Errors: ErrExists if another record has the id, or if End, EndUser or a SignIn removed one
	// with the id less than SupersededFor ago. An *OpError if an operation is refused. Nothing is
	// stored then.
	Create(ctx context.Context, id ID, spec *RecordSpec, c *Change) (*Result, error)

	// Apply replaces a live record by the outcome of [Record.Apply], atomically. It never creates a
	// record, so a late write cannot undo a sign-out.
	//
	// Errors: ErrNotFound and ErrMoved, as in Load. The ErrNotFound need not be an EndedError.
	// ErrMoved also if the record does not accept Change.Verifier. An *OpError if an operation is
	// refused. No operation is applied then.
	Apply(ctx context.Context, id ID, c *Change) (*Result, error)

	// Touch replaces a live record by the outcome of [Record.Touch], atomically. A store may return
	// before the touch is durable.
	//
	// Errors: ErrNotFound and ErrMoved, as in Apply.
	Touch(ctx context.Context, id ID, verifier Hash) error

	// End removes the record, and needs no verifier. From the moment of the call no reader of this
	// process finds the record. Once End has returned nil, nothing brings the record back. For
	// SupersededFor after End, Load returns an *EndedError.
	//
	// It is no error if there is no live record, and End then leaves no marker: made-up ids must
	// not fill the store.
	//
	// Errors: ErrMoved if a sign-in replaced the session less than SupersededFor ago. The moved
	// marker stays: Load keeps returning ErrMoved.
	End(ctx context.Context, id ID) error
}

// Errors of a Store. Test for them with errors.Is.
var (
	ErrNotFound = errors.New("session not found")
	ErrEnded    = errors.New("session ended")
	ErrMoved    = errors.New("the session has a newer token")
	ErrExists   = errors.New("a session with this id exists")
	ErrUnknown  = errors.New("outcome unknown: the change may have been stored, or may still be stored")
)

// EndedError is the error of Load for a session that ended less than SupersededFor ago. It matches
// [ErrEnded] and [ErrNotFound]. A request that began before the end was under way when the session
// ended. A request that began later has a token of no session.
type EndedError struct {
	Ago time.Duration // how long before the store's time now the session ended
}

func (e *EndedError) Error() string { return fmt.Sprintf("%v %v ago", ErrEnded, e.Ago) }

// Is reports whether target is ErrEnded or ErrNotFound.
func (e *EndedError) Is(target error) bool { return target == ErrEnded || target == ErrNotFound }

// EndedSince returns an [EndedError] if at, the time of an end, is less than SupersededFor before
// now. Otherwise, and if at is zero, it returns [ErrNotFound].
func EndedSince(now, at time.Time) error {
	if ago := now.Sub(at); !at.IsZero() && ago < SupersededFor {
		return &EndedError{Ago: max(0, ago)}
	}
	return ErrNotFound
}

// LiveRecord returns r if r is live, that is, neither nil nor expired. Otherwise it returns
// [ErrMoved] before movedUntil, and then the error of [EndedSince].
//
// r is the record that a store holds under an id, or nil. movedUntil is the moved marker under that
// id, or the zero time: see [SignInPlan]. endedAt is the ended marker, the time at which End,
// EndUser or a SignIn removed a live record, or the zero time. It is the time of the last EndAll if
// that is later: EndAll needs no markers. A store may remove a marker that is older than
// SupersededFor.
//
// Load, Apply and Touch begin with this call, in the transaction that reads r.
func LiveRecord(now time.Time, r *Record, movedUntil, endedAt time.Time) (*Record, error) {
	switch {
	case r != nil && r.Live(now):
		return r, nil
	case now.Before(movedUntil):
		return nil, ErrMoved
	}
	return nil, EndedSince(now, endedAt)
}
