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

// outbox holds events until they are in the stream. This process numbers its events without a
// gap, so that followers notice a lost one.
type outbox struct {
	node string // random, names this store to followers

	mu    sync.Mutex
	count uint64 // number of the newest event
	queue []outgoing
	wake  chan struct{}
}

type outgoing struct {
	number uint64
	mark   string
	event  []byte // nil: followers report a gap here
}

const (
	maxOutbox    = 4096 // events that wait for the server
	publishBatch = 64
	publishRetry = 250 * time.Millisecond
)

func newOutbox() *outbox { return &outbox{node: randomMark(), wake: make(chan struct{}, 1)} }

// randomMark returns 96 random bits as text.
func randomMark() string {
	var b [12]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Publishing implements driver.Feed: it reports whether Options.Events is set.
func (s *Store) Publishing() bool { return s.outbox != nil }

// Publish implements driver.Feed. Up to 4,096 events wait while the server is away. Further
// events are lost, and followers get driver.ErrGap in their place.
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
		return // followers notice the missing number
	}
	if len(event) > driver.MaxEvent {
		event = nil
	}
	o.queue = append(o.queue, outgoing{o.count, randomMark(), event})
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// batch returns the oldest events that wait.
func (o *outbox) batch() []outgoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue[:min(len(o.queue), publishBatch)]
}

// remove takes out the n oldest events, which are in the stream now. If the queue is then empty
// and newer events were lost, it adds an entry without an event: followers report a gap there.
func (o *outbox) remove(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := o.queue[n-1]
	o.queue = o.queue[n:]
	if len(o.queue) == 0 {
		o.queue = nil
		if last.number < o.count {
			o.count++
			o.queue = []outgoing{{o.count, randomMark(), nil}}
		}
	}
}

// flush returns when the outbox is empty, or after the limit.
func (o *outbox) flush(limit time.Duration) {
	for until := time.Now().Add(limit); len(o.batch()) > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}

// runPublisher sends what is in the outbox until ctx is done.
func (s *Store) runPublisher(ctx context.Context) {
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
		err := s.appendEvents(ctx, batch)
		if err == nil {
			s.outbox.remove(len(batch))
			failing = false
			continue
		}
		if !failing && ctx.Err() == nil {
			s.opt.Logger.Warn("redisstore: events are not published at the moment: the store keeps "+
				"4,096 of them and loses the others", "error", err)
		}
		failing = true
		select {
		case <-ctx.Done():
			return
		case <-time.After(publishRetry):
		}
	}
}

// appendEvents appends events to the stream. runPublisher repeats it until it certainly
// succeeded: followers recognise an event that is there twice by its number.
func (s *Store) appendEvents(ctx context.Context, batch []outgoing) error {
	args := make([]string, 2, 2+3*len(batch))
	args[0], args[1] = strconv.Itoa(s.opt.Events), s.outbox.node
	for _, e := range batch {
		args = append(args, e.mark, strconv.FormatUint(e.number, 10), string(e.event))
	}
	return s.withRetry(ctx, eventsPlace, idempotent, func(ctx context.Context) error {
		return publishScript.Exec(ctx, s.plain, []string{s.keys.events()}, args).Error()
	})
}
