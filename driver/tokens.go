package driver

import "time"

// ReplacedFor is how long a record remembers the verifier that a renewal replaced, so that a request under way with it is
// told apart from one that carries a token nobody issued.
const ReplacedFor = time.Minute

// Tokens says which verifiers open a record. Of each only the hash is kept. A new verifier is one write of one key: the
// record's name, which comes from the selector, stays.
type Tokens struct {
	Current    Hash
	Generation uint32 // how many verifiers came before Current

	Previous Hash          // the one before; zero if there was none
	Accepted bool          // Previous still opens the record: it was rotated out, not replaced
	Until    time.Time     // Previous means something until then; zero: until Current is first used, and for Grace after that
	Grace    time.Duration // of a rotation that is not confirmed yet, else 0
}

// Standing is what a verifier is to a record.
type Standing uint8

const (
	Foreign  Standing = iota // neither the current nor a remembered one: never issued, or long replaced
	Current                  // the current one
	Grace                    // rotated out, still accepted
	Replaced                 // renewed away less than ReplacedFor ago: the browser has a newer cookie, or is about to
)

// Standing reports what the verifier with this hash is at a time.
func (t *Tokens) Standing(verifier Hash, now time.Time) Standing {
	if t.Current.Equal(verifier) {
		return Current
	}
	remembered := t.Previous != Hash{} && (t.Until.IsZero() || now.Before(t.Until))
	if !t.Previous.Equal(verifier) || !remembered {
		return Foreign
	}
	if t.Accepted {
		return Grace
	}
	return Replaced
}

// Renewal gives a record a new verifier.
type Renewal struct {
	Verifier Hash
	// Grace is 0 for a renewal: the verifier before is dead at once. Otherwise this is a rotation: it stays valid until
	// the new one is first used, and for Grace after that, in whole milliseconds, at least one. [RotationGrace] suits browsers.
	Grace time.Duration
}

// renewed returns t after n, asked for with the verifier that presented is the hash of.
func (t Tokens) renewed(n *Renewal, presented Hash, now time.Time) Tokens {
	next := Tokens{Current: n.Verifier, Generation: t.Generation + 1, Previous: t.Current}
	if n.Grace == 0 {
		next.Until = now.Add(ReplacedFor)
		return next
	}
	next.Accepted, next.Grace = true, max(n.Grace.Truncate(time.Millisecond), time.Millisecond)
	if !t.Current.Equal(presented) {
		// The response with Current was lost, and the visitor still has the one before: that one stays the accepted one.
		next.Previous = presented
	}
	return next
}

// pending reports that Current has not been used yet.
func (t *Tokens) pending() bool { return t.Accepted && t.Until.IsZero() }

// used returns t after a request that presented a verifier: the first use of Current begins the grace of Previous.
func (t Tokens) used(presented Hash, now time.Time) Tokens {
	if t.pending() && t.Current.Equal(presented) {
		t.Until, t.Grace = now.Add(t.Grace), 0
	}
	return t
}

// RotationGrace is how long a rotated-out verifier should be accepted after the first use of its successor: longer than the
// requests that were under way take.
const RotationGrace = 30 * time.Second
