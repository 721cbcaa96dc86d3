package driver

import "time"

// Secret is 128 random bits that a record keeps for its whole life, whatever its tokens. It tells one creation from
// another, and keys that must survive a renewal derive from it.
type Secret [16]byte

// Record is a session at rest. It is immutable: a change makes another. Times are the store's, in whole milliseconds.
type Record struct {
	Secret    Secret
	Tokens    Tokens
	Principal *Principal // who is signed in; nil: nobody

	Idle     time.Duration // ends when not used for so long
	Created  time.Time
	Seen     time.Time // last use, to within TouchInterval
	Deadline time.Time // ends then, whatever happens

	Revision uint64 // grows by one with each change and touch
	Size     int    // Fields.Size
	Fields   Fields
}

// Expires is when the record ends unless it is used: the idle limit's end or the deadline, whichever is first.
func (r *Record) Expires() time.Time {
	if idle := r.Seen.Add(r.Idle); idle.Before(r.Deadline) {
		return idle
	}
	return r.Deadline
}

// Live reports that the record has not expired.
func (r *Record) Live(now time.Time) bool { return now.Before(r.Expires()) }

// TouchInterval is how much of the idle limit passes before a use is written down: a twentieth, at most a minute. Each
// write of a record makes every node drop its copy, so a read must not be one.
func TouchInterval(idle time.Duration) time.Duration { return min(idle/20, time.Minute) }

// TouchDue reports that a use at this time should be written down with [Store.Touch]: it would prolong the session by more
// than [TouchInterval], or it is the first use of a rotated token.
func (r *Record) TouchDue(verifier Hash, now time.Time) bool {
	prolonged := now.Add(r.Idle)
	if r.Deadline.Before(prolonged) {
		prolonged = r.Deadline
	}
	return prolonged.Sub(r.Expires()) > TouchInterval(r.Idle) || r.Tokens.pending() && r.Tokens.Current.Equal(verifier)
}

// RecordSpec is what a new record is made of. Of its limits the whole milliseconds count.
type RecordSpec struct {
	Secret         Secret
	Verifier       Hash
	Idle, Lifetime time.Duration
	Principal      *Principal
}

// Result is what a store made of a change.
type Result struct {
	Values [][]byte  // one for each Op: what Add left and Take removed, nil for others and where there was nothing; nil if no Op has one
	Record *Record   // the record after the change; nil if the store does not have it at hand
	Now    time.Time // the store's time

	Renewed bool // Apply: Change.Renew has taken place, now or when the change was made before

	Evicted []ID // SignIn: sessions that were ended for the user's limit
}

// NewRecord is the record that Create stores: of o, with the operations of c on no fields.
func NewRecord(now time.Time, o *RecordSpec, c *Change) (*Result, error) {
	r, err := newRecord(now, o)
	if err != nil {
		return nil, err
	}
	return r.with(r.Created, c, false)
}

func newRecord(now time.Time, o *RecordSpec) (*Record, error) {
	if o.Principal != nil {
		if err := o.Principal.Check(); err != nil {
			return nil, err
		}
	}
	now = now.Truncate(time.Millisecond)
	return &Record{
		Secret:    o.Secret,
		Tokens:    Tokens{Current: o.Verifier},
		Principal: o.Principal,
		Idle:      o.Idle.Truncate(time.Millisecond),
		Created:   now,
		Seen:      now,
		Deadline:  now.Add(o.Lifetime.Truncate(time.Millisecond)),
	}, nil
}

// Apply returns the next version of a live record: after c, and after a use at now, as [Record.Touch] counts it. r does not
// change. Errors: [ErrMoved] if the verifier is not accepted; an *[OpError].
//
// A renewal that the record has already seen (the same new verifier) is not done again: the caller did not hear of the
// first outcome and repeats it. A rotation that r does not take ([Record.RenewalDue]) is left out, and the rest of c is done: so a change with
// a rotation, unlike one with a renewal, must not be repeated.
func (r *Record) Apply(now time.Time, c *Change) (*Result, error) {
	now = now.Truncate(time.Millisecond)
	if c.Renew != nil && r.Tokens.Current.Equal(c.Renew.Verifier) {
		return &Result{Record: r, Now: now, Renewed: true}, nil
	}
	switch r.Tokens.Status(c.Verifier, now) {
	case Current, Grace:
	case Superseded, Unknown:
		return nil, ErrMoved
	}
	return r.with(now, c, c.Renew != nil && r.RenewalDue(c.Renew, c.Verifier, now))
}

func (r *Record) with(now time.Time, c *Change, renew bool) (*Result, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	draft := NewDraft(r, c.MaxSize)
	var values [][]byte
	for i := range c.Ops {
		value, err := draft.do(&c.Ops[i])
		if err != nil {
			err.(*OpError).Index = i //nolint:errorlint // Do returns no other, and this one is not wrapped
			return nil, err
		}
		if value != nil {
			if values == nil {
				values = make([][]byte, len(c.Ops))
			}
			values[i] = value
		}
	}
	next := r.usedAt(now, c.Verifier)
	next.Fields, next.Size = draft.fields, draft.size
	if renew {
		next.Tokens = r.Tokens.renewed(c.Renew, c.Verifier, now)
	}
	return &Result{Values: values, Record: next, Now: now, Renewed: renew}, nil
}

// Touch returns the next version of a live record after a use at now, or r itself if [Record.TouchDue] says that nothing
// is due. Errors: [ErrMoved].
func (r *Record) Touch(now time.Time, verifier Hash) (*Record, error) {
	now = now.Truncate(time.Millisecond)
	switch r.Tokens.Status(verifier, now) {
	case Current, Grace:
	case Superseded, Unknown:
		return nil, ErrMoved
	}
	if !r.TouchDue(verifier, now) {
		return r, nil
	}
	return r.usedAt(now, verifier), nil
}

// usedAt returns a copy of r after a use: with the time of it if that is due, and with the first use of a rotated token noted.
func (r *Record) usedAt(now time.Time, verifier Hash) *Record {
	next := *r
	next.Revision++
	if r.TouchDue(verifier, now) && now.After(r.Seen) {
		next.Seen = now
	}
	next.Tokens = r.Tokens.used(verifier, now)
	return &next
}
