package session

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Config configures the sessions of a [Manager]. The zero Config is secure. [New] copies a Config,
// checks it and fills in the defaults.
type Config struct {
	// Policy fills in and checks the other fields. [New] calls it before it fills in the defaults.
	// It sets fields that are zero, and returns an error that names a field whose value it forbids.
	// Package policy has presets. A function of your own may call several, the strictest first. You
	// cannot turn off a bool that a policy turns on. Default: none.
	Policy func(*Config) error

	// Limits

	// IdleTimeout ends a session that is not used for this long. A read counts as use. At least
	// 1ms, at most Lifetime. Default: 2h, or Lifetime if that is shorter.
	IdleTimeout time.Duration

	// FirstUseTimeout ends a new anonymous session whose token does not come back within this time.
	// The first use gives the session its whole IdleTimeout. So a bot that visits a form, and
	// keeps no cookie, does not fill the store. The request that creates the session does not count
	// as a use, unless it calls [Session.Reload] or [Session.Commit] after its response header has
	// left. Nor does a [Route].Passive request that only reads.
	//
	// To turn it off, set it to IdleTimeout. At least 1ms, at most IdleTimeout. Default: 15m, or
	// IdleTimeout if that is shorter.
	FirstUseTimeout time.Duration

	// Lifetime ends a session this long after its creation, even if it is in use. At least 1ms, at
	// most 10 years. Default: 24h.
	Lifetime time.Duration

	// RotateEvery replaces a session's token once the token is this old. The next response that can
	// carry a cookie brings the new token. The old token works until the new one is first used, and
	// for 30s after that. Then the old token is treated as stolen: its use ends the session.
	//
	// A stream whose token was superseded gets [ErrEnded] and must reconnect. Tokens from the
	// Authorization header never rotate, because a response cannot replace them. See
	// docs/rotation.md. At least 1m, at most Lifetime. Default: 0, never.
	RotateEvery time.Duration

	// MaxSize limits the size of one session's keys and values, in bytes. At most 16 MiB.
	// Default: 64 KiB.
	MaxSize int

	// CommitTimeout limits how long a commit may take. A commit continues if the client hangs up.
	// At least 1ms. Default: 2s.
	CommitTimeout time.Duration

	// WatchTimeout is how long [Session.Watch] and [Route.Context] go on while the store does not
	// answer. Until then a revoked session keeps its open responses. At least 1ms. Default: 30s.
	WatchTimeout time.Duration

	// Users

	// MaxRemember is the longest Login.Remember that is accepted. At least Lifetime, at most 400
	// days. Default: 0, Login.Remember is refused.
	MaxRemember time.Duration

	// MaxPerUser limits how many sessions a user has at the same time. At most 100. Default: 0, no
	// limit.
	MaxPerUser int

	// RefuseExtra refuses a sign-in over MaxPerUser with [ErrTooMany]. Default: false, the user's
	// oldest session ends instead.
	RefuseExtra bool

	// KeepFields are the names of the fields that a sign-in keeps from an anonymous session. The
	// other fields are dropped, because an attacker may have planted them. Default: none.
	KeepFields []string

	// User data

	// UserFields are the fields that belong to the user, not to the session, such as a cart. While
	// nobody is signed in, they are in the session. A sign-in moves them to the user's data, which
	// [Session.UserData] returns: a [Counter] and the counts of [Counters] are added, and other
	// values replace those of the user. UserFields needs a store that is a driver.Joiner; all of
	// this project are. See docs/user-data.md. Default: none.
	UserFields []Field

	// UserDataTimeout deletes the data of a user who does not use it for this long. Reading it
	// counts as use, to within an hour or a twentieth of the time, whichever is less. A change
	// applies to data that is stored for the first time afterwards. At least 1ms, at most 10 years.
	// Default: 90 days.
	UserDataTimeout time.Duration

	// Cookie

	// Cookie sets the name, the scope and the lifetime of the cookie. Default: the zero Cookie,
	// which is secure.
	Cookie Cookie

	// ClearSiteData are the directives of the Clear-Site-Data header that a response carries after
	// [Session.SignOut]: "cache", "cookies", "storage" and others, or "*" for all. They make the
	// browser delete what the application stored there. The header is sent whenever SignOut deletes
	// the cookie, even if the store is down. Browsers ignore it on plain HTTP. "cookies" deletes
	// the cookies of the whole registrable domain. (ASVS 14.3.1) Default: none.
	ClearSiteData []string

	// Bearer also accepts tokens from the header "Authorization: Bearer". [Session.BearerToken]
	// returns such a token. Default: false, only the cookie is read.
	Bearer bool

	// Keys and sealing

	// Keys sign tokens, so that a forged token costs no round trip to the store. Each key is 32
	// random bytes. The first key signs; a token signed with any of the keys is accepted. Tokens
	// signed with a removed key are rejected.
	//
	// To replace a key, append the new key on all nodes, then put it first on all nodes. Remove the
	// old key after Lifetime, or after MaxRemember if that is longer. See docs/keys.md.
	//
	// Adding the first key signs everybody out, unless UnsignedUntil is set. Removing all keys
	// signs nobody out. Default: none, tokens are not signed.
	Keys [][]byte

	// UnsignedUntil accepts tokens without a signature until this time, so that adding the first
	// key signs nobody out. Choose a time after the deployment has reached all nodes, plus Lifetime
	// (or MaxRemember, if longer). It requires Keys. Default: with Keys, unsigned tokens are
	// rejected.
	UnsignedUntil time.Time

	// UserKey is the key of the hashes that name users to the store: 32 random bytes. Without it,
	// an attacker who has the store and a list of user ids can tell who is signed in.
	//
	// Set it before the first sign-in, and never change it. Adding a key is a change. After a
	// change, a user's older sessions could be neither listed nor revoked, so they fail with status
	// 500, and the data of users is not found. Restore the old key, or end these sessions with
	// [Manager.RevokeAll]. See docs/keys.md. Default: none, the hashes have no key.
	UserKey []byte

	// Seal encrypts the values in the store with the first of Keys (AES-256-GCM). Any of Keys opens
	// them. Then a dump of the store shows neither values nor who is signed in, on which device and
	// from where. Seal requires Keys and UserKey. These stay in plain text:
	//
	//   - counters, because the store adds to them
	//   - names of fields and keys of entries
	//   - times, and the methods and levels of authentication
	//   - values stored before Seal was turned on, until their next write
	//
	// Seal protects against readers of the store, not against writers. A writer can replace a
	// sealed value by a plain one, or by an older one of the same session and field.
	//
	// If the key of any value is missing, the session cannot be read: [From] returns [ErrSealed],
	// unless [Route].Down is [DownAnonymous]. Turning Seal on or off signs nobody out if Keys and
	// UserKey stay the same.
	//
	// A value of n bytes grows to at most 4n/3 + 44 bytes, which count towards MaxSize. A field
	// must not be a [Counter] in one place and a [Value] in another. See docs/keys.md. Default:
	// false, values are stored in plain text.
	Seal bool

	// UndecodableIsUnset treats a stored value that does not decode into its field's type as unset,
	// in the methods Get, All and Update of [Value] and [Map]. It is for a release that changes a
	// type. The first such value of each field is logged. The stored bytes stay until the next
	// write. Default: false, such a value fails the request with [ErrDecode].
	UndecodableIsUnset bool

	// Cross-site requests

	// CrossOrigin checks requests with unsafe methods that carry the cookie, or whose response
	// would set it. Set one of your own to trust other origins, or to exempt routes that receive
	// cross-origin posts by design. Default: only the same origin is trusted.
	CrossOrigin *http.CrossOriginProtection

	// CSRF requires a token of [Session.CSRFToken] in each request with an unsafe method whose
	// cookie opens a session. The token is in the header [CSRFHeader], or in the form field
	// [CSRFField] within the first 64 KiB of the body. Without a token of its session, the request
	// fails with [ErrCSRF] and its handler does not run.
	//
	// CSRF is independent of CrossOrigin, which needs no tokens but trusts what browsers report
	// about a request's origin. CSRF reads the session before the request's [Route] is known, so
	// the request fails if the store is down. Requests with a bearer token are not checked. See
	// docs/csrf.md. (NIST SP 800-63B-4, 5.1) Default: false; the presets of package policy turn it
	// on.
	CSRF bool

	// CSRFExempt lists routes that CSRF does not check, as patterns of http.ServeMux. It has two
	// uses:
	//
	//  1. Routes that receive posts from other sites by design. Exempt them in CrossOrigin too, and
	//     make sure that they need no session.
	//  2. A sign-out that must delete the cookie while the store is down. CrossOrigin still
	//     protects it.
	//
	// Default: none.
	CSRFExempt []string

	// Hooks

	// OnError replaces the default answer to a failed request: a returned error of a [HandlerFunc],
	// a [Route] that is not met, a failed commit. It gets all errors: test with errors.Is, and
	// answer the rest with http.Error(w, http.StatusText(Status(err)), Status(err)). Do not show
	// err to the client.
	//
	// [Error] calls OnError, so OnError must not call Error. OnError may be called concurrently.
	// Default: the status of [Status] and a sentence in plain text.
	OnError func(w http.ResponseWriter, r *http.Request, err error)

	// OnEvent is called for each event of a session on this node, after the store has acknowledged
	// the change. For the events of all nodes use [Manager.Events]. OnEvent must not block. It may
	// use the session and the Manager. Its changes to a session are lost if the response header was
	// already sent.
	//
	// The goroutine that causes an event calls OnEvent, so it may be called concurrently. The
	// context is that of the call that caused the event, and may be done. For [EventExpired], a
	// goroutine of the store calls OnEvent, and a panic is logged. See docs/events.md. Default:
	// none.
	OnEvent func(ctx context.Context, e Event)

	// Observers watch the calls of the store and the events, for metrics and traces. All of them
	// are called, in this order for Start and in the reverse order for End. Without one, observing
	// costs nothing. See docs/observability.md. Default: none.
	Observers []Observer

	// Logger receives errors and warnings. A failed request has level ERROR if its status is 500 or
	// more, and INFO if it is less. It has level DEBUG for [ErrNotSignedIn], and if the client hung
	// up. Logger never receives a token. Default: slog.Default().
	Logger *slog.Logger
}
