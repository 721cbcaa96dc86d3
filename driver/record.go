package driver

import "time"

// Record is a stored session. It is immutable: a change makes another record. All times are the
// store's, in whole milliseconds.
type Record struct {
	Secret    Secret
	Tokens    Tokens
	Principal *Principal // who is signed in; nil: nobody

	Idle    time.Duration // the session ends when it is not used for this long
	Created time.Time

	// Seen is the last use, to within TouchInterval. A time before Created means that there was
	// none yet: see [RecordSpec].
	Seen time.Time

	Deadline time.Time // the session ends at this time, whether it is used or not

	Revision uint64 // grows by one with each change and each touch
	Size     int    // Fields.Size
	Fields   Fields

	plain bool // no value is sealed; false: not known
}

// Secret is 128 random bits that a record keeps for its whole life, also when its token changes. It
// tells one creation from another. Keys that must survive a new token are derived from it.
type Secret [16]byte

// Expires returns when the record expires if it is not used again: at the end of the idle limit or
// at the deadline, whichever is earlier.
func (r *Record) Expires() time.Time {
	if idle := r.Seen.Add(r.Idle); idle.Before(r.Deadline) {
		return idle
	}
	return r.Deadline
}

// Metadata returns the record without its fields. Fields is nil; Size is that of the fields.
func (r *Record) Metadata() *Record {
	m := *r
	m.Fields = nil
	return &m
}

// Plain reports that no value of r is sealed. If it returns false, any value may be. A reader of a
// plain record need not look at each value to know that it has the key of each.
func (r *Record) Plain() bool { return r.plain || len(r.Fields) == 0 }

// Live reports whether the record has not expired.
func (r *Record) Live(now time.Time) bool { return now.Before(r.Expires()) }

// Owner returns the owner of the session, or the zero Hash if nobody is signed in. A store indexes
// its records by owner.
func (r *Record) Owner() Hash {
	if r.Principal == nil {
		return Hash{}
	}
	return r.Principal.Owner
}

// Result is the outcome of a change.
type Result struct {
	// Values has one value for each Op: the sum that Add stored, or the value that Take removed. It
	// is nil for other operations and if there was nothing to take. Values is nil if no Op has a
	// value.
	Values [][]byte

	Record *Record   // the record after the change; nil if the store does not have it at hand
	Now    time.Time // the store's time

	Renewed bool // Apply: Change.Renew took effect, in this call or in one that this call repeats

	Evicted []ID // SignIn: sessions that ended because of SignIn.MaxSessions
}

// Apply returns the next version of a live record: after c, and after a use at now, as in
// [Record.Touch]. r does not change.
//
// A renewal is done once: if the record already has the new verifier, the caller repeats a call
// whose outcome it does not know, and Apply changes nothing. A rotation is left out if it is not
// due ([Record.RenewalDue]), and the rest of c is done. A caller must therefore not repeat a change
// with a rotation.
//
// Errors: [ErrMoved] if the record does not accept c.Verifier. An *[OpError] if an operation is
// refused.
func (r *Record) Apply(now time.Time, c *Change) (*Result, error) {
	now = now.Truncate(time.Millisecond)
	if c.Renew != nil && r.Tokens.Current.Equal(c.Renew.Verifier) {
		return &Result{Record: r, Now: now, Renewed: true}, nil
	}
	if !r.Tokens.accepts(c.Verifier, now) {
		return nil, ErrMoved
	}
	return r.with(now, c, c.Renew != nil && r.RenewalDue(c.Renew, c.shown(), now))
}

// with returns r after the operations of c and, if renew is set, with a new verifier.
func (r *Record) with(now time.Time, c *Change, renew bool) (*Result, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	draft := NewDraft(r, c.MaxSize)
	var values [][]byte
	for i := range c.Ops {
		value, err := draft.do(&c.Ops[i])
		if err != nil {
			err.(*OpError).Index = i //nolint:errorlint // do returns this type unwrapped
			return nil, err
		}
		if value != nil {
			if values == nil {
				values = make([][]byte, len(c.Ops))
			}
			values[i] = value
		}
	}
	next := r.usedAt(now, c.shown())
	next.Fields, next.Size = draft.Fields(), draft.size
	next.plain = r.Plain() && c.plain()
	if renew {
		next.Tokens = r.Tokens.renewed(c.Renew, c.shown(), now)
	}
	return &Result{Values: values, Record: next, Now: now, Renewed: renew}, nil
}

// Touch returns the next version of a live record after a use at now. It returns r itself if no
// touch is due ([Record.TouchDue]). Errors: [ErrMoved] if the record does not accept verifier.
func (r *Record) Touch(now time.Time, verifier Hash) (*Record, error) {
	now = now.Truncate(time.Millisecond)
	if !r.Tokens.accepts(verifier, now) {
		return nil, ErrMoved
	}
	if !r.TouchDue(verifier, now) {
		return r, nil
	}
	return r.usedAt(now, verifier), nil
}

// TouchInterval returns how much of the idle limit passes before a use is written: a twentieth, at
// most a minute. Every write of a record makes all nodes drop their copies, so most reads must not
// cause one.
func TouchInterval(idle time.Duration) time.Duration { return min(idle/20, time.Minute) }

// TouchDue reports whether a use at now should be written with [Store.Touch]. It should if it
// extends the session by more than [TouchInterval], or if it is the first use of a token that
// replaced another. verifier is zero if the request itself issued the token ([Change.Issued]): that
// is not the first use of the record ([RecordSpec.FirstUse]).
func (r *Record) TouchDue(verifier Hash, now time.Time) bool {
	if verifier == (Hash{}) && r.Seen.Before(r.Created) {
		return false
	}
	expires := now.Add(r.Idle)
	if r.Deadline.Before(expires) {
		expires = r.Deadline
	}
	return expires.Sub(r.Expires()) > TouchInterval(r.Idle) || r.Tokens.firstUse(verifier)
}

// usedAt returns a copy of r after a use. It updates Seen if that is due, and records the first use
// of a token that replaced another.
func (r *Record) usedAt(now time.Time, verifier Hash) *Record {
	next := *r
	next.Revision++
	if r.TouchDue(verifier, now) && now.After(r.Seen) {
		next.Seen = now
	}
	next.Tokens = r.Tokens.used(verifier, now)
	return &next
}
