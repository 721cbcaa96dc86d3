package driver

import (
	"context"
	"errors"
	"time"
)

// Store keeps records.
//
// All methods may be called at the same time. Each takes effect at one moment: a method that begins after another has
// returned sees what it did, in this process at least. ctx bounds the wait, not the effect; a store that talks to a server
// has a limit of its own besides.
//
// A record that has expired is not there, to the millisecond: no method finds it. Records that a store returns are shared:
// the caller must not modify them. What the caller passes in, it leaves alone afterwards.
//
// Any error that the comments below do not name means that the store could not answer, and that nothing was done;
// [ErrUnknown] means that a change may or may not have been done, or may be done yet. The caller does not send it again.
type Store interface {
	// Load returns the record and the store's time. It never writes. ErrNotFound; ErrMoved if the session went to another id
	// less than SupersededFor ago.
	Load(ctx context.Context, id ID) (*Record, time.Time, error)

	// Create stores NewRecord(now, o, c). ErrExists if another record has the id. A second Create with the Secret of the record
	// that is there is the first one repeated: it succeeds and changes nothing.
	// Ids are drawn at random: that of a session which ended is not created anew, and what a store makes of that is its own affair.
	Create(ctx context.Context, id ID, o *RecordSpec, c *Change) (*Result, error)

	// Apply replaces a live record by Record.Apply(now, c), atomically. It never creates one: ErrNotFound, ErrMoved. An *OpError
	// says which operation was refused; nothing of c is applied then.
	Apply(ctx context.Context, id ID, c *Change) (*Result, error)

	// Touch replaces a live record by Record.Touch(now, verifier). ErrNotFound, ErrMoved. A store may acknowledge before it is
	// durable.
	Touch(ctx context.Context, id ID, verifier Hash) error

	// End removes a record, whoever asks. From the moment it is called no reader of this process finds the record; once it
	// returns nil nothing brings it back. Ending what is not there is not an error, and of what has moved the
	// word of that stays.
	End(ctx context.Context, id ID) error
}

// What a store answers. Test with errors.Is.
var (
	ErrNotFound = errors.New("no such session")
	ErrMoved    = errors.New("the session has another token by now")
	ErrExists   = errors.New("a session of this id exists")
	ErrUnknown  = errors.New("outcome unknown: the change may have been stored, or may be yet")
)
