package driver

import (
	"context"
	"errors"
	"iter"
)

// Feed is a Store that passes events between the processes that share it. The caller defines what
// the bytes of an event mean. Without it, a process sees only its own events.
type Feed interface {
	// Publishing reports whether Publish has any effect.
	Publishing() bool

	// Publish sends an event to all followers in all processes. It neither blocks nor fails.
	// Followers see a gap in place of an event that could not be published.
	Publish(event []byte)

	// Follow yields the events that any process publishes after Follow has returned. All followers
	// see the same order, and the events of one process in the order of their publication.
	//
	// Where events are missing, it yields ErrGap in their place and continues. After an ErrGap an
	// event may be yielded a second time. After any other error the sequence ends. It ends without
	// an error when ctx is done.
	Follow(ctx context.Context) (iter.Seq2[[]byte, error], error)
}

// MaxEvent is the largest size of an event in bytes. A larger event is not published: followers see
// a gap.
const MaxEvent = 4096

// ErrGap reports that events are missing.
var ErrGap = errors.New("events are missing")
