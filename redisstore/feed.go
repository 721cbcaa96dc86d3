package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

var _ driver.Feed = (*Store)(nil)

// outbox holds events until they are in the stream. Each has a number of this process's, in order and with none left out, so that those who
// follow see where one was lost.
type outbox struct {
	node string // names this process's store

	mu    sync.Mutex
	count uint64 // of the last event
	queue []outgoing
	wake  chan struct{}
}

type outgoing struct {
	n     uint64
	mark  string
	event []byte
}

const (
	maxOutbox    = 4096 // events that wait for the server
	publishBatch = 64
	publishRetry = 250 * time.Millisecond
)

func newOutbox() *outbox { return &outbox{node: randomMark(), wake: make(chan struct{}, 1)} }

// randomMark is 96 random bits.
func randomMark() string {
	var b [12]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Publishing implements driver.Feed: it reports whether Options.Events is set.
func (s *Store) Publishing() bool { return s.outbox != nil }

// Publish implements driver.Feed. Up to 4,096 events wait while the server is away; what is over that is a gap.
func (s *Store) Publish(event []byte) {
	if s.outbox != nil {
		s.outbox.put(event)
	}
}

func (o *outbox) put(event []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
	if len(o.queue) >= maxOutbox {
		return // the number that is missing tells
	}
	if len(event) > driver.MaxEvent {
		event = nil // a gap
	}
	o.queue = append(o.queue, outgoing{o.count, randomMark(), event})
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// batch returns the first events that wait.
func (o *outbox) batch() []outgoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue[:min(len(o.queue), publishBatch)]
}

// sent takes out events that are in the stream. If the queue is then empty, and what came last is not in the stream, an entry without an
// event tells of that.
func (o *outbox) sent(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := o.queue[n-1]
	o.queue = o.queue[n:]
	if len(o.queue) == 0 {
		o.queue = nil
		if last.n < o.count {
			o.count++
			o.queue = []outgoing{{o.count, randomMark(), nil}}
		}
	}
}

// flush waits until the outbox is empty, but not for long.
func (o *outbox) flush(most time.Duration) {
	for until := time.Now().Add(most); len(o.batch()) > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}

// publishAll sends what is in the outbox until ctx is done.
func (s *Store) publishAll(ctx context.Context) {
	failing := false
	for {
		batch := s.outbox.batch()
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-s.outbox.wake:
			}
			continue
		}
		err := s.append(ctx, batch)
		if err == nil {
			s.outbox.sent(len(batch))
			failing = false
			continue
		}
		if !failing && ctx.Err() == nil {
			s.opt.Logger.Warn("redisstore: events are not published at the moment; some wait, those that are too many are lost", "error", err)
		}
		failing = true
		select {
		case <-ctx.Done():
			return
		case <-time.After(publishRetry):
		}
	}
}

// append puts events into the stream. It is repeated until it has succeeded for certain: those who follow know an event by its number.
func (s *Store) append(ctx context.Context, batch []outgoing) error {
	args := make([]string, 2, 2+3*len(batch))
	args[0], args[1] = strconv.Itoa(s.opt.Events), s.outbox.node
	for _, e := range batch {
		args = append(args, e.mark, strconv.FormatUint(e.n, 10), string(e.event))
	}
	return s.attempt(ctx, repeatable, func(ctx context.Context) error {
		return publishScript.Exec(ctx, s.plain, []string{s.keys.events()}, args).Error()
	})
}
