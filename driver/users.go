package driver

import (
	"bytes"
	"context"
	"slices"
	"time"
)

// UserStore is a Store that knows which sessions a user has. With a store that is no UserStore,
// nobody can sign in.
//
// A store knows a user as an owner: the keyed hash of the user's id ([Principal.Owner]). It needs
// neither the key nor the id. All sessions of an owner have ids with the owner's bucket
// ([BucketOf]).
type UserStore interface {
	Store

	// SignIn carries out a [SignInPlan] in one step: it stores a new record at id, ends the session
	// that the browser had, and ends the sessions over the owner's limit. [PlanSignIn] makes the
	// plan. After an error nothing has changed.
	//
	// The limit is exact: at no moment are more than SignIn.MaxSessions sessions of the owner
	// alive, even if many sign in at the same time. For SupersededFor after the sign-in, Load of
	// SignIn.From.ID returns ErrMoved. Result.Evicted has the sessions that ended because of the
	// limit. A SignIn that repeats the one that made the record at id, with the same
	// RecordSpec.Secret, succeeds and changes nothing.
	//
	// Once SignIn has returned nil, the session has its full idle limit. If the store needs several
	// steps, only a crash between them may leave a session, and one that lives for a minute.
	//
	// Errors: ErrTooMany, ErrRevoked, ErrExists as in Create, ErrPrincipal, an *OpError, and the
	// error of SignIn.Carry.
	SignIn(ctx context.Context, id ID, in *SignIn) (*Result, error)

	// Sessions returns one page of the owner's live sessions, newest first: those after the cursor,
	// at most limit. Sessions of the same millisecond are in any order that never changes. The
	// records have metadata only. A store should not read the fields: a user may have many large
	// sessions. See [ListSessions].
	//
	// The caller takes the cursor from the last session of the previous page, with
	// [UserSession.Cursor]. That session may have ended meanwhile. The zero cursor asks for the
	// first page.
	//
	// A page with fewer than limit sessions is the last one. So a store leaves out expired sessions
	// before it counts. If limit is less than 1, the page is empty.
	Sessions(ctx context.Context, owner Hash, after SessionCursor, limit int) ([]UserSession, error)

	// EndUser ends the owner's sessions that sel selects, in one step, and returns those that were
	// alive. For SupersededFor after that, Load of such a session returns an *EndedError.
	//
	// Unless sel names sessions ([Selection.Revokes]), EndUser is a revocation. A SignIn of the
	// owner that began before it is refused with ErrRevoked. No older session of the owner that is
	// not excepted is found again, even if the store's index has lost it. The store keeps the time
	// of the revocation for PlanSignIn, also across a restart, and may forget it after
	// MaxSignInTime.
	//
	// After an error, the result has the sessions that have certainly ended, and the caller may
	// call EndUser again to end the rest. If a reply from the store's server was lost, the result
	// may have fewer sessions than have ended; if sel names sessions, the error is then ErrUnknown.
	EndUser(ctx context.Context, owner Hash, sel Selection) ([]ID, error)

	// EndAll ends every session that the store has when it is called. It revokes all owners'
	// sessions: a SignIn that began before it is refused with ErrRevoked, also after a restart of
	// the store.
	//
	// For SupersededFor after EndAll, Load returns an *EndedError for every id without a live
	// record. So EndAll needs no marker for each session.
	//
	// After an error the caller may call EndAll again to end the rest. Several callers may call it
	// at the same time.
	EndAll(ctx context.Context) error
}

// UserSession is a session of a user.
type UserSession struct {
	ID     ID
	Record *Record
}

// Cursor returns the position of the session in the list of its owner's sessions.
func (s UserSession) Cursor() SessionCursor { return SessionCursor{s.Record.Created, s.ID} }

// SessionCursor is a position in the list of an owner's sessions: that of the session with this
// time of creation and this id. Both never change, so the position stays valid when sessions begin
// or end. The zero SessionCursor is before the newest session.
type SessionCursor struct {
	Created time.Time
	ID      ID
}

// compare returns a negative number if c is before o in the list.
func (c SessionCursor) compare(o SessionCursor) int {
	if n := o.Created.Compare(c.Created); n != 0 {
		return n
	}
	return bytes.Compare(o.ID.Selector[:], c.ID.Selector[:])
}

// LiveSessions returns the sessions that have not expired, newest first. Sessions of the same
// millisecond are ordered by id, so that the order is stable. It does not modify sessions.
func LiveSessions(now time.Time, sessions []UserSession) []UserSession {
	live := make([]UserSession, 0, len(sessions))
	for _, s := range sessions {
		if s.Record.Live(now) {
			live = append(live, s)
		}
	}
	slices.SortFunc(live, func(a, b UserSession) int { return a.Cursor().compare(b.Cursor()) })
	return live
}

// ListSessions returns the page that [UserStore.Sessions] returns, from all sessions of the owner:
// the first limit ones of [LiveSessions] after the cursor. The records have only metadata: Fields
// is nil, Size is set. ListSessions does not modify sessions.
func ListSessions(now time.Time, sessions []UserSession, after SessionCursor, limit int) []UserSession {
	live := LiveSessions(now, sessions)
	if !after.Created.IsZero() {
		live = slices.DeleteFunc(live, func(s UserSession) bool { return s.Cursor().compare(after) <= 0 })
	}
	page := make([]UserSession, min(max(limit, 0), len(live)))
	for i := range page {
		page[i] = UserSession{live[i].ID, live[i].Record.Metadata()}
	}
	return page
}

// Selection selects sessions of an owner. The zero Selection selects all.
type Selection struct {
	Only   []ID // if not nil, only these; ids of other owners' sessions are ignored
	Except []ID // not these, at most MaxExcept

	// MaxLifetime is the longest lifetime of the owner's sessions. A store that remembers a
	// revocation in place of removing records remembers it this long, and for MaxSignInTime at
	// least. Default: ten years.
	MaxLifetime time.Duration
}

// MaxExcept is the largest length of Selection.Except.
const MaxExcept = 100

// Matches reports whether the selection includes a session of the owner. The caller makes sure that
// the session is the owner's and is live.
func (s *Selection) Matches(id ID) bool {
	return (s.Only == nil || slices.Contains(s.Only, id)) && !slices.Contains(s.Except, id)
}

// Revokes reports whether ending the selected sessions is a revocation, which also refuses sign-ins
// that began earlier. It is unless Only names the sessions.
func (s *Selection) Revokes() bool { return s.Only == nil }

// BucketOf returns the bucket of all sessions of an owner: the first two bytes of the hash,
// big-endian. It is part of the format. Sessions and index of an owner so share a slot of a Redis
// Cluster.
func BucketOf(owner Hash) uint16 { return uint16(owner[0])<<8 | uint16(owner[1]) }
