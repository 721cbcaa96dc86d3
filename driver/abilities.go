package driver

import (
	"context"
	"time"
)

// FreshLoader is a Store that keeps copies, and can do without. Where it is missing, Load is as good.
type FreshLoader interface {
	// LoadFresh is Load past any copy.
	LoadFresh(ctx context.Context, id ID) (*Record, time.Time, error)
}

// StaleLoader is a Store that keeps copies, and gives one out though it cannot vouch for it: when the server is away, to callers who
// asked for that. Where it is missing, there is none.
type StaleLoader interface {
	// LoadStale returns a copy, within a bound that the store states, and the store's time as far as it knows.
	LoadStale(id ID) (*Record, time.Time, bool)
}

// Clock is a Store that tells its time. Where it is missing, this process's clock is taken.
type Clock interface {
	// Now returns the time that the store's records live by, as far as it knows without asking a server.
	Now() time.Time
}

// ExpiryReporter is a Store that tells of the sessions that expired though somebody was signed in. Where it is missing, nobody hears of them.
type ExpiryReporter interface {
	// OnExpiry adds f to those who are told of each session of a user that expired by itself, rather than being ended or replaced. Of all
	// clients on the same data one tells of it, once, never before it has expired; when, the store says. One that dies, or loses the answer of its
	// server, as it is about to tell, does not. f is called by a goroutine of the store's, which holds no lock and waits for it.
	OnExpiry(f func(ExpiredSession))
}

// ExpiredSession is a session that expired.
type ExpiredSession struct {
	ID     ID
	Owner  Hash
	Record *Record   // as it was; nil if the store has it no longer
	At     time.Time // when it expired; where the store does not know, when it saw that
}

// EndReporter is a Store that ends a session in its owner's index, too, and knows whether there was one. Where it is missing, End is called,
// and what a request has read counts as having been there.
type EndReporter interface {
	// EndAndReport is End of a session of the owner, the zero Hash for one that nobody is signed in to. It reports whether the session was
	// alive, and false where an answer of the store's server was lost that may have said so. With an error it may be true all the same: the
	// session has ended, and not all servers that were to hear of it have. Of several calls at the same time one ends it.
	EndAndReport(ctx context.Context, id ID, owner Hash) (ended bool, err error)
}
