package driver

import "time"

// SupersededFor is how long a record remembers the verifier that a renewal replaced, and how long a
// store remembers a session that a sign-in replaced. It tells a request that was already under way
// from one with a token that was never issued.
const SupersededFor = time.Minute

// Tokens says which verifiers a record accepts. It keeps only their hashes. The record's id comes
// from the token's selector, which stays, so a new verifier is one write of one key.
type Tokens struct {
	Current Hash

	// Generation counts how often the visitor's verifier changed before Current. It does not count
	// a verifier that was replaced before it was used. So exactly one verifier of each earlier
	// generation was used. It is 0 as long as there is no Previous.
	Generation uint32

	// Issued is when Current was issued. It is zero as long as there is no Previous: Current was
	// then issued when the record was created.
	Issued time.Time

	// Previous is the verifier before Current; zero at first.
	Previous Hash

	// PreviousAccepted is set after a rotation: the record still accepts Previous. After a renewal
	// it is not set: the record only remembers Previous.
	PreviousAccepted bool

	// Unused is set while Current, which replaced Previous, was not used yet. The token may still
	// be on its way to the visitor, or may be lost.
	Unused bool

	// PreviousUntil is when Previous stops being accepted or remembered. After a rotation it is
	// zero until Current is first used; that use sets it to Grace later.
	PreviousUntil time.Time

	// Grace is the grace period of a rotation whose new verifier was not used yet; otherwise 0.
	Grace time.Duration

	// Overtaken is the last generation in which a verifier was replaced before it was used. It is
	// nil if that never happened.
	Overtaken *Overtaken
}

// Overtaken is a generation that has verifiers that were never used. Their tokens may arrive late
// at the visitor, and are not stolen then. An Overtaken is immutable.
type Overtaken struct {
	Generation uint32

	// Used is the verifier of Generation that was used. It is zero while the record has Generation.
	Used Hash
}

// TokenStatus says how a record treats a verifier.
type TokenStatus uint8

// The zero TokenStatus is Unknown. After Superseded the browser has a newer cookie, or is about to
// get it, so the response must not replace or delete the cookie.
const (
	Unknown    TokenStatus = iota // never issued, or replaced long ago: refused
	Current                       // the current verifier: accepted
	Grace                         // replaced by a rotation, within its grace period: accepted
	Superseded                    // replaced by a renewal less than SupersededFor ago: refused
)

// Status returns the status at now of the verifier with this hash.
func (t *Tokens) Status(verifier Hash, now time.Time) TokenStatus {
	if t.Current.Equal(verifier) {
		return Current
	}
	remembered := t.Previous != Hash{} && (t.PreviousUntil.IsZero() || now.Before(t.PreviousUntil))
	if !t.Previous.Equal(verifier) || !remembered {
		return Unknown
	}
	if t.PreviousAccepted {
		return Grace
	}
	return Superseded
}

// accepts reports whether the record accepts a verifier at now.
func (t *Tokens) accepts(verifier Hash, now time.Time) bool {
	status := t.Status(verifier, now)
	return status == Current || status == Grace
}

// Stolen reports whether a refused verifier is stolen: two parties have it. generation is the one
// in the token. at is when the request that carries the token began.
//
// A verifier is stolen if it was used and its successor was used, too. Each token leaves in one
// response only. So a token that was used has arrived, and no late response can bring it back to
// the browser. These verifiers are not stolen:
//
//   - The generation is that of the record or higher: a failover lost a write, or one response
//     overtook another.
//   - The generation is that of Previous, and Current was not used yet: the response with Current
//     may be lost.
//   - Another verifier of the same generation was used ([Tokens.Overtaken]): this one arrived late.
//   - The request was under way when the verifier changed ([Tokens.Overlaps]).
func (t *Tokens) Stolen(verifier Hash, generation uint32, at time.Time) bool {
	successor := uint64(generation) + 1
	if last := uint64(t.Generation); successor > last || successor == last && t.Unused {
		return false
	}
	if o := t.Overtaken; o != nil && o.Generation == generation && !o.Used.Equal(verifier) {
		return false
	}
	return !t.Overlaps(verifier, at)
}

// Overlaps reports whether a request with a refused verifier may have been under way when the
// verifier changed. at is when the request began.
func (t *Tokens) Overlaps(verifier Hash, at time.Time) bool {
	if at.Before(t.Issued) || t.Status(verifier, at) != Unknown {
		return true
	}
	// A renewal also ends the grace period of an earlier rotation. While the record remembers the
	// renewal, the verifier of that period may belong to a request that is under way.
	return !t.PreviousAccepted && at.Before(t.PreviousUntil)
}

// Renewal gives a record a new verifier: by a renewal, which refuses the old one at once, or by a
// rotation, which accepts the old one for a grace period.
type Renewal struct {
	Verifier Hash

	// Grace is 0 for a renewal. For a rotation it is the grace period, in whole milliseconds, at
	// least one: the old verifier is accepted until the new one is first used, and for Grace after
	// that. [RotationGrace] suits browsers.
	Grace time.Duration

	// MinAge, in whole milliseconds, applies to rotations: one takes effect only if the current
	// verifier is at least this old. If several requests find it old at the same time, only one
	// rotates it.
	MinAge time.Duration
}

// RenewalDue reports whether n takes effect at now, for a request with a verifier that r accepts.
// verifier is zero if the request itself issued the verifier ([Change.Issued]).
//
// A renewal is always due. A rotation is due if the current verifier is at least n.MinAge old and
// one of these holds:
//
//   - The request has the current verifier, and no earlier one is accepted any more. A record
//     remembers one earlier verifier, whose grace period must not be cut short.
//   - The request has the earlier verifier, and the current one was never used: the response that
//     carried it was lost.
func (r *Record) RenewalDue(n *Renewal, verifier Hash, now time.Time) bool {
	if n.Grace <= 0 {
		return true
	}
	t := &r.Tokens
	may := t.pending()
	if t.Current.Equal(verifier) {
		may = !may && !(t.PreviousAccepted && now.Before(t.PreviousUntil))
	}
	return may && r.TokenAge(now) >= n.MinAge.Truncate(time.Millisecond)
}

// TokenAge returns how long before now the current verifier was issued.
func (r *Record) TokenAge(now time.Time) time.Duration {
	if r.Tokens.Issued.IsZero() {
		return now.Sub(r.Created)
	}
	return now.Sub(r.Tokens.Issued)
}

// renewed returns t after n, in a request with the given verifier. The verifier is zero if the
// request itself issued it.
func (t Tokens) renewed(n *Renewal, verifier Hash, now time.Time) Tokens {
	next := Tokens{
		Current: n.Verifier, Generation: t.Generation, Issued: now, Previous: t.Previous, Unused: true,
		Overtaken: t.Overtaken,
	}
	if t.Unused && !t.Current.Equal(verifier) {
		// The visitor does not have Current: its response was lost, or is still on its way.
		next.Overtaken = &Overtaken{Generation: t.Generation}
	} else {
		next.Previous, next.Generation = t.Current, t.Generation+1
		if o := t.Overtaken; o != nil && o.Generation == t.Generation {
			next.Overtaken = &Overtaken{Generation: o.Generation, Used: t.Current}
		}
	}
	if n.Grace == 0 {
		next.PreviousUntil = now.Add(SupersededFor)
	} else {
		next.PreviousAccepted, next.Grace = true, max(n.Grace.Truncate(time.Millisecond), time.Millisecond)
	}
	return next
}

// pending reports whether Current came from a rotation and was not used yet.
func (t *Tokens) pending() bool { return t.PreviousAccepted && t.Unused }

// firstUse reports whether a use with the given verifier is the first one of Current.
func (t *Tokens) firstUse(verifier Hash) bool { return t.Unused && t.Current.Equal(verifier) }

// used returns t after a request with the given verifier. The first use of a rotated verifier
// starts the grace period of Previous.
func (t Tokens) used(verifier Hash, now time.Time) Tokens {
	if !t.firstUse(verifier) {
		return t
	}
	t.Unused = false
	if t.PreviousAccepted {
		t.PreviousUntil, t.Grace = now.Add(t.Grace), 0
	}
	return t
}

// RotationGrace is a grace period for browsers. It is longer than a request that was under way at
// the first use of the new verifier takes.
const RotationGrace = 30 * time.Second
