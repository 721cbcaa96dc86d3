package session

import (
	"log/slog"
	"time"
)

// Event is something that happened to a session, for audit logs and the like. It holds no token and
// no secret.
//
// An event is reported only after the store has confirmed it. So a change whose outcome is unknown
// ([ErrUnknownOutcome]) has no event. EventStolen is also reported if the store could not end the
// session; the log then has an error.
type Event struct {
	// Kind says what happened.
	Kind EventKind
	// Handle names the session, as in Info. It is empty for EventRevoked of all sessions, and for
	// EventRefused of a text that names no session.
	Handle string
	// User is who is, or was, signed in. It is empty if nobody was, or if it is not known.
	User string
	// Before is the handle of the session that the visitor had before EventSignedIn; empty: none.
	// It may have been another user's.
	Before string
	// Reason is why a token was refused: "malformed", "forged", or "unknown". "unknown" means that
	// there is no such session, most often because it has ended.
	Reason string
	// Time is the store's time, if the store tells it, and else this process's.
	Time time.Time

	anonymous bool // nobody was signed in, and that is known
}

// EventKind says what happened.
type EventKind string

// The kinds of events. The node that did it emits exactly one event. One request emits at most one
// EventRefused.
const (
	EventCreated   EventKind = "created"    // an anonymous session was stored
	EventSignedIn  EventKind = "signed in"  // a session of User was stored
	EventRenewed   EventKind = "renewed"    // Session.Renew changed the token
	EventRotated   EventKind = "rotated"    // the token was changed because of its age
	EventSignedOut EventKind = "signed out" // Session.SignOut ended the session
	EventRevoked   EventKind = "revoked"    // Manager.Revoke, RevokeUser or RevokeAll ended it
	EventEvicted   EventKind = "evicted"    // Config.MaxPerUser ended it
	EventExpired   EventKind = "expired"    // a signed-in session expired
	EventStolen    EventKind = "stolen"     // a superseded token was used; see docs/events.md
	EventRefused   EventKind = "refused"    // a token opened no session
)

// LogValue implements slog.LogValuer: a group of the fields that are set.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("kind", string(e.Kind))}
	for _, a := range []slog.Attr{
		slog.String("session", e.Handle), slog.String("user", e.User), slog.String("before", e.Before), slog.String("reason", e.Reason),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	return slog.GroupValue(append(attrs, slog.Time("time", e.Time))...)
}
