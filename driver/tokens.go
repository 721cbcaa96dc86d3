package driver

import "time"

// SupersededFor is how long a record remembers the verifier that a renewal replaced, so that a request under way with it is
// told apart from one that carries a token nobody issued.
const SupersededFor = time.Minute

// Tokens says which verifiers open a record. Of each only the hash is kept. A new verifier is one write of one key: the
// record's name, which comes from the selector, stays.
type Tokens struct {
	Current    Hash
	Generation uint32    // how often the visitor's verifier had changed before Current; one that was lost on its way does not count
	Issued     time.Time // when Current was issued; zero: with the record

	Previous         Hash          // the one before; zero if there was none
	PreviousAccepted bool          // Previous still opens the record: it was rotated out, not replaced
	PreviousUntil    time.Time     // Previous means something until then; zero: until Current is first used, and for Grace after that
	Grace            time.Duration // of a rotation that is not confirmed yet, else 0
}

// Standing is what a verifier is to a record.
type TokenStatus uint8

const (
	Unknown    TokenStatus = iota // neither the current nor a remembered one: never issued, or long replaced
	Current                       // the current one
	Grace                         // rotated out, still accepted
	Superseded                    // renewed away less than SupersededFor ago: the browser has a newer cookie, or is about to
)

// Standing reports what the verifier with this hash is at a time.
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

// Stolen reports that a verifier, which its token says is of a generation, is in two hands: it is neither current nor remembered, and
// was changed for another long ago, so that no browser sends it any more. at is when the request that carries it began: a request that
// was under way when its verifier changed is no thief's. A generation of the record's own, or ahead of it, is a write that a failover
// lost, or a response that was overtaken, and never theft.
func (t *Tokens) Stolen(verifier Hash, generation uint32, at time.Time) bool {
	if generation >= t.Generation || t.Status(verifier, at) != Unknown || at.Before(t.Issued) {
		return false
	}
	return t.PreviousAccepted || !at.Before(t.PreviousUntil) // a renewal cuts off at once what a rotation before it left in grace
}

// Renewal gives a record a new verifier.
type Renewal struct {
	Verifier Hash

	// Grace is 0 for a renewal: the verifier before is dead at once. Otherwise this is a rotation: it stays valid until
	// the new one is first used, and for Grace after that, in whole milliseconds, at least one. [RotationGrace] suits browsers.
	Grace time.Duration

	// MinAge is for rotations: one takes place if the current verifier is at least so old, in whole milliseconds. So of the requests
	// that find it old at the same time one rotates.
	MinAge time.Duration
}

// RenewalDue reports whether a change at this time, by a request that presented a verifier which opens r, takes n. A renewal always is. A
// rotation is if the current verifier is old enough, and the visitor's own: a request with the one before may rotate only as long as the
// current one has not been used, for then the response that brought it was lost; one with the current verifier only when the one before is
// accepted no more, since the record remembers one, and that one has its grace.
func (r *Record) RenewalDue(n *Renewal, presented Hash, now time.Time) bool {
	if n.Grace <= 0 {
		return true
	}
	t := &r.Tokens
	may := t.pending()
	if t.Current.Equal(presented) {
		may = !may && !(t.PreviousAccepted && now.Before(t.PreviousUntil))
	}
	return may && r.TokenAge(now) >= n.MinAge.Truncate(time.Millisecond)
}

// TokenAge is how long ago the current verifier was issued.
func (r *Record) TokenAge(now time.Time) time.Duration {
	if r.Tokens.Issued.IsZero() {
		return now.Sub(r.Created)
	}
	return now.Sub(r.Tokens.Issued)
}

// renewed returns t after n, asked for with the verifier that presented is the hash of.
func (t Tokens) renewed(n *Renewal, presented Hash, now time.Time) Tokens {
	next := Tokens{Current: n.Verifier, Generation: t.Generation + 1, Issued: now, Previous: t.Current}
	if n.Grace == 0 {
		next.PreviousUntil = now.Add(SupersededFor)
		return next
	}
	next.PreviousAccepted, next.Grace = true, max(n.Grace.Truncate(time.Millisecond), time.Millisecond)
	if !t.Current.Equal(presented) {
		// The response with Current was lost, and the visitor still has the one before: that one stays the accepted one.
		next.Previous, next.Generation = presented, t.Generation
	}
	return next
}

// pending reports that Current has not been used yet.
func (t *Tokens) pending() bool { return t.PreviousAccepted && t.PreviousUntil.IsZero() }

// used returns t after a request that presented a verifier: the first use of Current begins the grace of Previous.
func (t Tokens) used(presented Hash, now time.Time) Tokens {
	if t.pending() && t.Current.Equal(presented) {
		t.PreviousUntil, t.Grace = now.Add(t.Grace), 0
	}
	return t
}

// RotationGrace is how long a rotated-out verifier should be accepted after the first use of its successor: longer than the
// requests that were under way take.
const RotationGrace = 30 * time.Second
