// Package redisstore stores sessions in Redis or Valkey, where all processes of a service share
// them. The servers are a single server, a primary that Sentinel watches, or a Cluster. Redis 7.0
// or Valkey 7.2 is enough.
//
//	store, err := redisstore.Open(ctx, "redis://localhost:6379", redisstore.Options{})
//	sessions, err := session.New(store, session.Config{})
//
// # Format
//
// A session is one hash. Each field of the session is a field of the hash, so a commit sends only
// what changed. One script checks that the session is alive and makes the change. The scripts are
// in lua/. format/README.md specifies the format for other languages.
//
// # Near cache
//
// Reading a session that did not change costs no round trip. The store keeps the records that it
// has read ([Options.NearCache]) until Redis reports a change (client tracking). It serves a copy
// only under a lease: if a primary does not answer for [Options.Lease], the store asks Redis again.
//
// # Failover
//
// Redis replicates after it answers, so a failover can lose acknowledged changes. A lost end would
// let an ended session back in. So the store remembers the ends that it made. It refuses those
// sessions itself, and repeats the ends after a failover. [Options.Replicas] also makes an end wait
// for replicas.
//
// Ending all sessions of a user, or of all users, stores a time. Every session that was created
// before it is refused, even if other keys are lost, and before its own key is removed.
//
// What else can be lost depends on the servers' settings:
//
//   - With an append-only file and appendfsync always, nothing that was acknowledged is lost.
//   - With appendfsync everysec, a crash of the process loses nothing. A crash of the machine loses
//     about the last second.
//   - Without persistence, a restart loses all sessions: visitors become anonymous.
//   - A failover loses what the replica did not have yet. A planned one of Sentinel loses a second
//     or two of changes. It loses no end that a running process remembers.
//   - Restoring an older dump brings back the sessions that ended since then, except those that
//     running processes remember.
//
// # Errors
//
// Errors say whether a change was made: see driver.Store.
package redisstore

// The files, in the order in which an operation passes them.
//
// Opening: options.go, url.go, store.go (Store, Open, Close), clientoption.go ([Options.Client]),
// credentials.go (user and password of each connection), client.go (the two rueidis clients),
// servercheck.go, advice.go (logs what settings of the servers cost).
//
// A read, [Store.Load] in read.go:
//
//	tombstones.go        refuses sessions that this process ended
//	near.go              returns a copy, under the lease of lease.go
//	globalrevocation.go  refuses sessions that EndAll ended
//	outage.go            fails at once if the server is known to be down
//	retry.go             asks the server, again if that is safe
//	revocations.go       refuses sessions that EndUser ended
//
// A write, [Store.Apply] in write.go: tombstones.go and globalrevocation.go as above, scripts.go
// (runs lua/apply.lua) by way of retry.go, reply.go (what the script answered), near.go (updates
// the copy).
//
// An end, [Store.EndAndReport] in end.go, with lua/end.lua:
//
//	tombstones.go    refuses the session here at once, and repeats the end after a failover
//	scripts.go       removes the session
//	replicas.go      waits for replicas
//	invalidation.go  drops the copies of other nodes, when Redis reports the change
//
// Users: userindex.go (whose sessions are where), signin.go with lua/signin.lua, move.go with
// lua/move.lua (the browser's old session), enduser.go with lua/enduser.lua, endall.go with
// lua/revokeall.lua.
//
// In the background: health.go asks the nodes (topology.go, sentinels.go), sets clock.go and
// renews the lease; outage.go probes primaries that may be down (places.go says which sessions they
// have) and closes connections to a replica (connections.go); tombstones.go and revocations.go
// repeat ends; expiry.go reports sessions that expired; publish.go and follow.go are the two ends
// of the feed.
//
// keys.go has the names of all keys, errors.go what an operator can do about an error.
