package driver

import (
	"context"
	"time"
)

// FreshLoader is a Store that serves Load from copies and can also bypass them. Without it, the
// caller uses Load.
type FreshLoader interface {
	// LoadFresh is Load without any copy.
	LoadFresh(ctx context.Context, id ID) (*Record, time.Time, error)
}

// LoadReporter is a Store that serves Load from copies and can report whether it did. Without it,
// metrics count each Load as one that the server answered.
type LoadReporter interface {
	// LoadAndReport is Load, and reports whether a copy answered, without a round trip.
	LoadAndReport(ctx context.Context, id ID) (r *Record, now time.Time, cached bool, err error)
}

// NearReporter is a Store that can have a near cache: copies of records in this process.
type NearReporter interface {
	// Near returns the figures of the near cache. ok is false if the store has none.
	Near() (stats NearStats, ok bool)
}

// NearStats are figures of a near cache. Bytes and Copies are current. The others count since the
// store was opened.
type NearStats struct {
	Hits, Misses  uint64 // reads that a copy answered, and all others
	Drops         uint64 // copies dropped because the session changed elsewhere
	Evictions     uint64 // copies dropped to make room
	Bytes, Copies int
}

// SessionCounter is a Store that can count its live sessions. Counting takes time: never do it in a
// request.
type SessionCounter interface {
	// Count counts the live sessions of all Managers that share the store. sample is how many
	// records to look at: a store for which that is fewer than all may estimate. If sample is 0,
	// the store looks at all records, and the count is exact.
	//
	// Sessions that begin or end meanwhile are counted or not.
	Count(ctx context.Context, sample int) (Count, error)
}

// Count is how many sessions are alive.
type Count struct {
	SignedIn  int  // sessions of users
	Anonymous int  // all others
	Exact     bool // not an estimate
}

// StaleLoader is a Store that keeps copies and can return one that may be outdated, while its
// server does not answer. Only callers that asked for this get such a copy. Without it, there are
// none.
type StaleLoader interface {
	// LoadStale returns a copy and the store's time as far as it is known. The store states how old
	// a copy may be. The bool is false if there is no such copy.
	LoadStale(id ID) (*Record, time.Time, bool)
}

// Clock is a Store that knows its time. Without it, the caller uses this process's clock.
type Clock interface {
	// Now returns the store's time, as far as it is known without asking a server.
	Now() time.Time
}

// ExpiryReporter is a Store that reports the sessions of users that expired. Without it, nobody
// learns of them.
type ExpiryReporter interface {
	// OnExpiry adds a listener. The store calls f for each session of a user that expired; not for
	// one that was ended or replaced, and not for an anonymous one.
	//
	// Each expiry is reported at most once across all clients of the same data, and never early.
	// The store states how late. An expiry is not reported if the client that is about to report it
	// dies or loses its server's reply.
	//
	// The store calls f from a goroutine of its own, without holding a lock, and waits until f
	// returns.
	OnExpiry(f func(ExpiredSession))
}

// ExpiredSession is a session of a user that expired.
type ExpiredSession struct {
	ID     ID
	Owner  Hash
	Record *Record   // its last version; nil if the store no longer has it
	At     time.Time // when it expired; if the store does not know that, when it noticed
}

// EndReporter is a Store whose End can report whether it ended a live session. Without it, the
// caller uses End, and reports an end if it had read the session.
type EndReporter interface {
	// EndAndReport is End, and reports whether it ended a live session. owner is the session's
	// owner, the zero Hash for an anonymous session; the store uses it to update its index. If
	// several calls end a session at the same time, exactly one reports it.
	//
	// A call that repeats an earlier one, with the same attempt, also reports what that one ended.
	// So a repetition after a lost reply reports the end. The store keeps the attempt with the
	// ended marker, for SupersededFor. The zero Attempt matches no earlier call.
	//
	// ended may be true together with an error: the session has ended, but not all servers know it
	// yet. It may be false although the session was alive, if a server lost the marker.
	EndAndReport(ctx context.Context, id ID, owner Hash, attempt Attempt) (ended bool, err error)
}

// Attempt is 128 random bits that identify an end and its repetitions.
type Attempt [16]byte
