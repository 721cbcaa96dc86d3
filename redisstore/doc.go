// Package redisstore keeps sessions in Redis or Valkey, where all processes of a service share them: one server, a primary that
// Sentinel watches, or a Cluster. It needs Redis 7.0 or Valkey 7.2, and nothing newer.
//
//	store, err := redisstore.Open(ctx, "redis://localhost:6379", redisstore.Options{})
//	sessions, err := session.New(store, session.Config{})
//
// A session is one hash, a field of the session a field of the hash, so a commit sends what changed, in one script that first
// checks that the session lives. The scripts are the files in lua/; format/README.md specifies the format for other languages.
//
// Reading what has not changed costs no round trip: the store keeps the records that it has read ([Options.NearCache]) until Redis
// says that they changed (client tracking). A copy is trusted under a lease: without a sign of life from every primary within
// [Options.Lease] the store asks Redis again.
//
// Redis replicates after it answers, so a failover can lose what was acknowledged. An end that is lost would be a way in: the store
// remembers the ends that it made, refuses those sessions itself, and repeats the ends after a failover. [Options.Replicas] makes an
// end wait for replicas besides.
//
// What can be lost is what the servers' settings say. With an append-only file and appendfsync always, nothing that was acknowledged.
// With everysec the death of the process loses nothing, and that of the machine about the last second. Without persistence a restart
// loses all sessions: visitors are anonymous, and nothing else breaks. A failover loses what had not reached the replica: at a planned
// one of Sentinel that is a second or two of changes, but no end that a living process remembers. Restoring an older dump brings back
// what ended since, but for the ends that living processes remember.
//
// Revoking all sessions of a user, or everybody's, writes down a time: what is older is no session, whatever else is lost, and however long it
// takes to remove it.
//
// An error of this package says whether a change was done: see driver.Store.
package redisstore
