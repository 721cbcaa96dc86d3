package driver

import (
	"errors"
	"fmt"
	"time"
)

// SignIn asks a [UserStore] to store a signed-in session.
type SignIn struct {
	Spec   RecordSpec  // Spec.Principal is who signs in; the store sets its Authenticated time
	Change Change      // applied to the carried fields
	From   *Credential // the session that the browser had; nil: none

	// Carry returns the fields that the new session takes over from the session that the browser
	// had. A store calls it with a live record that accepts From.Verifier, possibly more than once,
	// and possibly in a transaction. Carry must not block. nil: no fields.
	Carry func(from *Record) (Fields, error)

	// Elapsed is the time between the start of the authentication and the call of SignIn. A store
	// refuses more than MaxSignInTime with ErrRevoked.
	Elapsed time.Duration

	// AuthenticatedAgo is the time between the user's authentication and the sign-in, for example
	// at an identity provider: 0 to MaxAuthenticatedAgo. The store subtracts it from its own time
	// of the sign-in, to set the principal's Authenticated time. Both are in whole milliseconds.
	AuthenticatedAgo time.Duration

	MaxSessions int  // how many sessions the owner may have, the new one included; 0: no limit
	RefuseExtra bool // over MaxSessions return ErrTooMany; otherwise end the oldest sessions
}

// Credential is a session as a browser names it.
type Credential struct {
	ID       ID
	Verifier Hash
}

// MaxSignInTime is the longest time that an authentication may take. A store may forget a
// revocation after it.
const MaxSignInTime = 24 * time.Hour

// MaxAuthenticatedAgo is the longest time between an authentication and a sign-in.
const MaxAuthenticatedAgo = 10 * 365 * 24 * time.Hour

// Errors of a sign-in that a store refuses.
var (
	ErrTooMany = errors.New("the user has the maximum number of sessions")
	ErrRevoked = errors.New("the user's sessions were revoked after the authentication began")
)

// SignInState is what a store reads to carry out a sign-in: the input of [PlanSignIn]. Records may
// have expired.
type SignInState struct {
	// Called is the store's time when SignIn was called, before it waited for a lock or a
	// transaction.
	Called time.Time

	// Now is the store's time in the transaction.
	Now time.Time

	Existing *Record       // the record under the new id; nil: none
	From     *Record       // the record under SignIn.From.ID; nil: none
	Sessions []UserSession // all sessions of the owner; not needed if SignIn.MaxSessions is 0

	// RevokedAt is when the owner's sessions were last revoked, by EndUser or EndAll, whichever is
	// later. Zero: not within the last MaxSignInTime. If the store keeps it rounded, it must be
	// rounded up.
	RevokedAt time.Time
}

// SignInPlan says what a store writes for a sign-in, all of it or nothing.
type SignInPlan struct {
	// Result is the outcome. The store stores Result.Record under the new id, removes the records
	// of Result.Evicted, which leave ended markers, and returns the Result.
	Result *Result

	// MovedUntil is zero if no session is replaced. Otherwise the store removes the record under
	// SignIn.From.ID and puts MovedUntil, the moved marker, in its place: it passes the marker to
	// [LiveRecord], and removes it after that time. End leaves the marker in place.
	MovedUntil time.Time
}

// PlanSignIn decides a [UserStore.SignIn]. A store calls it in one transaction: the transaction
// reads the state and writes the plan, and no other sign-in or revocation of the owner comes in
// between.
//
// These are the rules, in order:
//
//  1. If a live record exists under the new id, the call either repeats the sign-in that made it,
//     with the same secret, and the plan is that record unchanged; or the result is [ErrExists].
//  2. If the authentication began before the last revocation, at its very time, or more than
//     [MaxSignInTime] ago, the result is [ErrRevoked].
//  3. The session that the browser had is replaced if its record is live and accepts the verifier.
//     Otherwise the browser had none: an id alone, which is public, must not end a session.
//  4. If the owner's other sessions, without the replaced one, reach MaxSessions, the result is
//     [ErrTooMany] with RefuseExtra; otherwise the oldest are evicted, so that MaxSessions remain
//     with the new one.
//  5. [NewSignedIn] makes the new record. Its errors are returned.
func PlanSignIn(in *SignIn, state SignInState) (SignInPlan, error) {
	if res, err := repeated(state.Now, state.Existing, in.Spec.Secret); res != nil || err != nil {
		return SignInPlan{Result: res}, err
	}
	began := state.Called.Add(-in.Elapsed)
	if in.Elapsed > MaxSignInTime || !state.RevokedAt.IsZero() && !began.After(state.RevokedAt) {
		return SignInPlan{}, ErrRevoked
	}
	from := in.replaces(&state)
	evicted, err := in.evicts(&state, from != nil)
	if err != nil {
		return SignInPlan{}, err
	}
	res, err := NewSignedIn(state.Now, in, from)
	if err != nil {
		return SignInPlan{}, err
	}
	res.Evicted = evicted
	plan := SignInPlan{Result: res}
	if from != nil {
		plan.MovedUntil = state.Now.Add(SupersededFor)
	}
	return plan, nil
}

// replaces returns the record of the session that the sign-in replaces, or nil.
func (in *SignIn) replaces(state *SignInState) *Record {
	r := state.From
	if in.From == nil || r == nil || !r.Live(state.Now) || !r.Tokens.accepts(in.From.Verifier, state.Now) {
		return nil
	}
	return r
}

// evicts returns the sessions that end because of the limit.
func (in *SignIn) evicts(state *SignInState, replaces bool) ([]ID, error) {
	if in.MaxSessions == 0 {
		return nil, nil
	}
	var evicted []ID
	others := 0
	for _, s := range LiveSessions(state.Now, state.Sessions) {
		if replaces && s.ID == in.From.ID {
			continue
		}
		if others++; others < in.MaxSessions {
			continue
		}
		if in.RefuseExtra {
			return nil, ErrTooMany
		}
		evicted = append(evicted, s.ID)
	}
	return evicted, nil
}

// NewSignedIn returns the record of a new signed-in session: the fields that in.Carry takes from
// the record from, with the operations of in.Change applied. from is nil if no session is replaced.
// [PlanSignIn] calls it. A store whose server decides the rest calls it directly.
//
// Errors: [ErrPrincipal], an *[OpError], and the error of in.Carry.
func NewSignedIn(now time.Time, in *SignIn, from *Record) (*Result, error) {
	var carried Fields
	if from != nil && in.Carry != nil {
		var err error
		if carried, err = in.Carry(from); err != nil {
			return nil, err
		}
	}
	principal := *in.Spec.Principal
	var err error
	if principal.Authenticated, err = in.authenticated(now); err != nil {
		return nil, err
	}
	spec := in.Spec
	spec.Principal = &principal
	r, err := newRecord(now, &spec)
	if err != nil {
		return nil, err
	}
	r.Fields, r.Size, r.plain = carried, carried.Size(), carried.plain()
	return r.with(now.Truncate(time.Millisecond), &in.Change, false)
}

// authenticated returns the store's time of the authentication.
func (in *SignIn) authenticated(now time.Time) (time.Time, error) {
	if in.AuthenticatedAgo < 0 || in.AuthenticatedAgo > MaxAuthenticatedAgo {
		return time.Time{}, fmt.Errorf("%w: the authentication was %v before the sign-in, not 0 to %v",
			ErrPrincipal, in.AuthenticatedAgo, MaxAuthenticatedAgo)
	}
	at := now.Truncate(time.Millisecond).Add(-in.AuthenticatedAgo.Truncate(time.Millisecond))
	if at.UnixMilli() < 0 { // the format has no time before 1970
		at = time.UnixMilli(0)
	}
	return at, nil
}
