// Package session keeps what a web application knows about a visitor, and gives the visitor's browser nothing but a ticket:
// a random token.
//
// Three things are all that most applications need:
//
//   - a [Manager], made by [New] from a store and a [Config]; its [Manager.Handler] is the middleware;
//   - fields, declared once as package variables or constants: [Counter], [Counters], [Value], [Map], [Value];
//   - [HandlerFunc], a handler that is given its [Session], or [From], which gets it from a request's context.
//
// One rule tells the cost of a call from its signature:
//
//	with a context   it talks to the store now, and returns an error
//	without one      it works on the request's own view; it neither blocks nor fails
//
// What a call without a context did wrong (a value that does not encode, is too large, or whose stored form does not decode)
// sticks to the Session, as an error sticks to a bufio.Writer: the commit fails with it, before the first byte of the
// response, and nothing that the request had changed since its last commit is stored.
//
// [Session.SignIn] makes somebody the session's user, [Session.SignOut] ends it. [Manager.Sessions] lists where a user is signed in,
// [Manager.Revoke], [Manager.RevokeUser] and [Manager.RevokeAll] end that. [Route] is what one route asks of its sessions: somebody signed in,
// how recently, what to do when the store is down.
//
// Package policy has presets for Config: the assurance levels of NIST SP 800-63B-4, and OWASP's applications of high value. A request that
// another site caused is refused by default; Config.CSRF asks for a token of the session's own pages, too.
//
// Stores are packages of their own: memstore (in memory), filestore (on disk, for one process), redisstore (on Redis or Valkey, for many).
// Config.OnEvent is told what happens to sessions on this node, [Manager.Events] what happens on all. Package driver is for authors of stores.
//
// What is promised: no write of a concurrent request is lost; a session that has ended stays ended; only tokens issued here are
// accepted; the store holds only hashes of them, and with Config.Seal neither values nor users in clear; changes are committed before the
// first byte of the response; a store that is down is an error and never an empty session.
package session
