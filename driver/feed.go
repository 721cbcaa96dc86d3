package driver

import (
	"context"
	"errors"
	"iter"
)

// Feed is a Store through which the processes that share it hear of each other's events. What an event says is the caller's affair. Where it
// is missing, nobody hears of others.
type Feed interface {
	// Publishing reports whether Publish does anything.
	Publishing() bool

	// Publish has an event told to all who follow, in all processes. It neither blocks nor fails: what cannot be published is a gap to
	// those who follow.
	Publish(event []byte)

	// Follow yields the events that are published after it has returned, by whichever process, in one order for all; those of one process
	// in its own order. Where some are missing it yields ErrGap in their place, and goes on. After any other error it ends, as it does,
	// with none, when ctx is done. An event is perhaps yielded again after an ErrGap.
	Follow(ctx context.Context) (iter.Seq2[[]byte, error], error)
}

// MaxEvent is how many bytes an event has at most: what is longer is not published, and is a gap.
const MaxEvent = 4096

// ErrGap says that events are missing.
var ErrGap = errors.New("events are missing")
