package driver

import (
	"context"
	"errors"
	"time"
)

// UserStore is a Store that knows whose sessions it keeps. Where it is missing, nobody can sign in.
//
// An owner is the keyed hash of a user's id ([Principal.Owner]); a store need not know the key, nor the id. All sessions of an owner
// have the owner's bucket, [BucketOf].
type UserStore interface {
	Store

	// SignIn stores a new record at id, ends the one that the browser had, and keeps the owner's limit, all of it or nothing. The limit is
	// exact whatever signs in at the same time: at no moment are more than s.Max sessions of the owner alive. Load of s.From.ID answers
	// ErrMoved for SupersededFor. Result.Evicted are the sessions that were ended for the limit. A second SignIn with the Secret of the record
	// at id is the first one repeated. ErrTooMany; ErrRevoked; ErrExists; ErrPrincipal; an *OpError; what Carry returned. After an error
	// all is as it was.
	SignIn(ctx context.Context, id ID, s *SignIn) (*Result, error)

	// Sessions returns the owner's live sessions, the newest first.
	Sessions(ctx context.Context, owner Hash) ([]UserSession, error)

	// EndUser ends sessions of the owner in one step and returns those that were alive; with an error those that it has certainly ended all
	// the same. Unless only named sessions are ended, it revokes all that came before it: a SignIn of the owner that began earlier is refused
	// with ErrRevoked, and no session from before that is not excepted is found again, also one that the store no longer knows to be the
	// owner's. After an error it can be called again, and goes on. Where an answer of the store's server was lost it may return fewer than it
	// has ended; if sessions are named, ErrUnknown.
	EndUser(ctx context.Context, owner Hash, which Selection) ([]ID, error)

	// EndAll ends every session that the store has when it is called. A SignIn that began before it is refused with ErrRevoked, after a
	// restart of the store, too, as with EndUser. After an error it can be called again, and goes on; several may call it at the same time.
	EndAll(ctx context.Context) error
}

// Owned is a session of a user.
type UserSession struct {
	ID     ID
	Record *Record
}

// Which says which sessions of an owner: all, all but Except, or those of Only.
type Selection struct {
	Only   []ID // not nil: these, if they are the owner's
	Except []ID // at most MaxExcept

	// MaxLifetime is how long a session of the owner may live at most. A store that remembers that all were ended remembers it for so long, and
	// for MaxSignInTime at least. 0: ten years.
	MaxLifetime time.Duration
}

// MaxExcept is how many sessions Which.Except may name.
const MaxExcept = 100

// BucketOf returns the bucket of all sessions of an owner, so that they and their index share a slot of a Redis Cluster. It is part of the
// format: the first two bytes of the hash, big-endian.
func BucketOf(owner Hash) uint16 { return uint16(owner[0])<<8 | uint16(owner[1]) }

// SignIn is what a store makes a signed-in session of.
type SignIn struct {
	Spec   RecordSpec  // Principal is who signs in; its Authenticated is the store's to fill in
	Change Change      // done on the fields that come along
	From   *Credential // what the browser had; nil: nothing

	// Carry returns the fields of the session that the browser had which come along. It is called with a live record that accepts
	// From.Verifier, perhaps more than once, and must not block.
	Carry func(from *Record) (Fields, error)

	Elapsed     time.Duration // how long before the call the authentication began; over MaxSignInTime: ErrRevoked
	MaxSessions int           // how many sessions the owner may have, this one included; 0: any number
	RefuseExtra bool          // at Max refuse with ErrTooMany; else end the oldest
}

// Presented is a session as a browser names it.
type Credential struct {
	ID       ID
	Verifier Hash
}

// MaxSignInTime is the longest time that an authentication may take: a store forgets revocations after it.
const MaxSignInTime = 24 * time.Hour

// NewSignedIn is the record that SignIn stores; from is the record that the browser had, nil if there was none.
func NewSignedIn(now time.Time, s *SignIn, from *Record) (*Result, error) {
	var carried Fields
	if from != nil && s.Carry != nil {
		var err error
		if carried, err = s.Carry(from); err != nil {
			return nil, err
		}
	}
	principal := *s.Spec.Principal
	principal.Authenticated = now.Truncate(time.Millisecond)
	o := s.Spec
	o.Principal = &principal
	r, err := newRecord(now, &o)
	if err != nil {
		return nil, err
	}
	r.Fields, r.Size = carried, carried.Size()
	return r.with(now.Truncate(time.Millisecond), &s.Change, false)
}

// Why a store refuses a sign-in.
var (
	ErrTooMany = errors.New("the user has as many sessions as allowed")
	ErrRevoked = errors.New("the user's sessions were revoked after the authentication began")
)
