// Package feed passes events to the followers in one process. memstore and filestore implement
// driver.Feed with it.
package feed

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/coatcheck-go/session/driver"
)

// Feed is a driver.Feed for one process. The zero Feed is ready to use. It is safe for concurrent
// use.
type Feed struct {
	mu        sync.Mutex
	followers map[*follower]struct{}
	closed    bool
}

// maxQueue is the largest number of events that wait for one follower. Further events are a gap.
const maxQueue = 4096

var errClosed = errors.New("the store is closed")

type follower struct {
	queue [][]byte // nil: a gap
	wake  chan struct{}
}

// Publishing implements driver.Feed.
func (f *Feed) Publishing() bool { return true }

// Publish implements driver.Feed.
func (f *Feed) Publish(event []byte) {
	if len(event) > driver.MaxEvent {
		event = nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for to := range f.followers {
		to.put(event)
	}
}

// put queues an event, or a gap if event is nil or the queue is full. The caller holds the lock.
func (to *follower) put(event []byte) {
	n := len(to.queue)
	switch {
	case n < maxQueue:
		to.queue = append(to.queue, event)
	case to.queue[n-1] != nil:
		to.queue = append(to.queue, nil)
	}
	select {
	case to.wake <- struct{}{}:
	default:
	}
}

// Follow implements driver.Feed.
func (f *Feed) Follow(ctx context.Context) (iter.Seq2[[]byte, error], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.followers == nil {
		f.followers = map[*follower]struct{}{}
	}
	me := &follower{wake: make(chan struct{}, 1)}
	f.followers[me] = struct{}{}
	stop := context.AfterFunc(ctx, func() { f.leave(me) }) // also if the sequence is never used
	return func(yield func([]byte, error) bool) {
		defer f.leave(me)
		defer stop()
		for {
			queue, closed := f.take(me)
			for _, event := range queue {
				var err error
				if event == nil {
					err = driver.ErrGap
				}
				if ctx.Err() != nil || !yield(event, err) {
					return
				}
			}
			if closed {
				yield(nil, errClosed)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-me.wake:
			}
		}
	}, nil
}

// take returns the events that wait for me.
func (f *Feed) take(me *follower) (queue [][]byte, closed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	queue, me.queue = me.queue, nil
	return queue, f.closed
}

// leave removes a follower.
func (f *Feed) leave(me *follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.followers, me)
	me.queue = nil
}

// Close ends all sequences of Follow with an error.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for to := range f.followers {
		select {
		case to.wake <- struct{}{}:
		default:
		}
	}
}
