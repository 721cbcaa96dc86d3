// Package session keeps what a web application knows about a visitor. The visitor's browser gets
// only a random token.
//
// Most applications need three things:
//
//   - A [Manager], made by [New] from a store and a [Config]. Its [Manager.Handler] is the
//     middleware.
//   - Fields, declared once as constants or package variables: [Counter], [Counters], [Value],
//     [Map].
//   - Handlers that use the [Session] of a request. A [HandlerFunc] gets the Session as an
//     argument. Any other handler calls [From].
//
// # The context rule
//
// The signature of a call shows its cost:
//
//   - A call with a context talks to the store now, and returns an error.
//   - A call without a context works on the request's own view. It never waits and returns no
//     error.
//
// A call without a context can still go wrong: its value does not encode or is too large, or the
// stored value does not decode. The error then sticks to the Session, as it does to a bufio.Writer.
// The commit returns it before the first byte of the response, and stores none of the changes that
// the request has made since its last commit.
//
// # Fields
//
// A field is a string constant or variable whose value is the field's name. Fields need no
// registration:
//
//	const visits session.Counter = "visits"
//	const theme session.Value[string] = "theme"
//
// A name has 1 to 64 of the characters a-z A-Z 0-9 . _ -. By convention it begins with the name of
// its package, as in "cart.items". A write to a field with any other name fails the commit with
// [ErrInvalid].
//
// Two packages that declare the same name share the field. If their types differ, reading a value
// of the other type fails the request with [ErrDecode]. Values are stored as JSON, each by itself,
// so that programs in other languages can read them.
//
// # Users
//
// [Session.SignIn] starts a user's session, and [Session.SignOut] ends it. [Manager.Sessions] lists
// a user's sessions. [Manager.Revoke], [Manager.RevokeUser] and [Manager.RevokeAll] end sessions.
// A [Route] states what a route requires, such as a recent authentication, and what it does when
// the store is down.
//
// # Security
//
// Cross-origin requests with unsafe methods are refused by default. Config.CSRF also requires a
// token of the session in forms. Package policy has presets for Config: the assurance levels of
// NIST SP 800-63B-4, and OWASP's limits for high-value applications.
//
// # Stores
//
//   - memstore keeps sessions in memory.
//   - filestore keeps sessions on disk, for one process.
//   - redisstore keeps sessions on Redis or Valkey, for many processes.
//
// Package driver is for authors of stores.
//
// # Events
//
// Config.OnEvent gets the events of sessions on this node. [Manager.Events] follows the events of
// all nodes.
//
// # Promises
//
//   - No write is lost when requests run concurrently.
//   - A session that has ended stays ended.
//   - Only tokens that were issued here are accepted.
//   - The store holds only hashes of tokens. With Config.Seal, users and all values except counters
//     are encrypted.
//   - Time limits hold, whatever the client does.
//   - Changes are committed before the first byte of the response.
//   - A store that is down is an error, never an empty session, and signs nobody out.
//   - Reading an unchanged session costs no round trip, if the store has a near cache.
//   - A user's sessions are listed, limited and revoked exactly, also during concurrent sign-ins.
//   - Sizes, memory, retries and waiting times are bounded.
//
// docs/design.md explains these promises and the design. docs/keys.md, docs/rotation.md,
// docs/csrf.md and docs/events.md explain one topic each. docs/security.md lists security
// requirements, each with its test.
package session
