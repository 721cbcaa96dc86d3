package driver

import "time"

// RecordSpec describes a new record. Limits are cut to whole milliseconds.
type RecordSpec struct {
	Secret         Secret
	Verifier       Hash // the hash of the first token's verifier
	Idle, Lifetime time.Duration
	Principal      *Principal // nil: nobody is signed in

	// FirstUse is the idle limit until the client first uses the record. [NewRecord] sets
	// Record.Seen so far before Record.Created that the record expires after FirstUse. The first
	// use sets Seen, and from then on Idle applies. Sign-ins ignore FirstUse. 0 and more than Idle:
	// Idle.
	FirstUse time.Duration
}

// PlanCreate decides a [Store.Create]. existing is the record that the store holds under the new
// id, or nil; it may have expired. The store calls PlanCreate in the transaction that reads
// existing, stores Result.Record under the id, and returns the Result.
//
// If existing is live and has spec.Secret, the call repeats the Create that made it. PlanCreate
// then returns existing unchanged, whatever was changed in it since.
//
// Errors: [ErrExists] if existing is live and has another secret. An *[OpError] if an operation is
// refused. [ErrPrincipal].
func PlanCreate(now time.Time, existing *Record, spec *RecordSpec, c *Change) (*Result, error) {
	if res, err := repeated(now, existing, spec.Secret); res != nil || err != nil {
		return res, err
	}
	return NewRecord(now, spec, c)
}

// repeated returns the result of a call that repeats the creation of existing. It returns nil if no
// live record exists, and ErrExists if another call created it.
func repeated(now time.Time, existing *Record, secret Secret) (*Result, error) {
	switch {
	case existing == nil || !existing.Live(now):
		return nil, nil
	case existing.Secret != secret:
		return nil, ErrExists
	}
	return &Result{Record: existing, Now: now}, nil
}

// NewRecord returns the record that spec describes, with the operations of c applied to no fields.
// [PlanCreate] calls it. A store whose server recognizes a repeated call calls it directly.
func NewRecord(now time.Time, spec *RecordSpec, c *Change) (*Result, error) {
	r, err := newRecord(now, spec)
	if err != nil {
		return nil, err
	}
	res, err := r.with(r.Created, c, false)
	if err != nil {
		return nil, err
	}
	if first := spec.FirstUse.Truncate(time.Millisecond); first > 0 && first < r.Idle {
		res.Record.Seen = r.Created.Add(first - r.Idle)
		if res.Record.Seen.UnixMilli() < 0 { // the format has no time before 1970
			res.Record.Seen = time.UnixMilli(0)
		}
	}
	return res, nil
}

func newRecord(now time.Time, spec *RecordSpec) (*Record, error) {
	if spec.Principal != nil {
		if err := spec.Principal.Check(); err != nil {
			return nil, err
		}
	}
	now = now.Truncate(time.Millisecond)
	return &Record{
		Secret:    spec.Secret,
		Tokens:    Tokens{Current: spec.Verifier},
		Principal: spec.Principal,
		Idle:      spec.Idle.Truncate(time.Millisecond),
		Created:   now,
		Seen:      now,
		Deadline:  now.Add(spec.Lifetime.Truncate(time.Millisecond)),
	}, nil
}
