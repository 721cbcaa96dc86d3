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
