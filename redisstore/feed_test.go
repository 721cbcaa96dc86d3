package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

const gap = "GAP" // what a recorder records for driver.ErrGap

// recorder follows a feed and records its events. A gap is recorded as the event gap.
type recorder struct {
	mu     sync.Mutex
	events []string
	hold   sync.Mutex   // while a test holds it, the recorder stops at its next event
	count  atomic.Int64 // events that the recorder got, including the one at which it stopped
}

// follow follows a store's feed until the test ends.
func follow(t *testing.T, s *redisstore.Store) *recorder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, err := s.Follow(ctx)
	must(t, err)
	f, done := &recorder{}, make(chan struct{})
	go func() {
		defer close(done)
		for b, err := range events {
			f.count.Add(1)
			f.hold.Lock()
			f.hold.Unlock() //nolint:staticcheck // only to wait
			text := string(b)
			if errors.Is(err, driver.ErrGap) {
				text = gap
			} else if err != nil {
				text = err.Error()
			}
			f.mu.Lock()
			f.events = append(f.events, text)
			f.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// received returns the events so far.
func (f *recorder) received() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.events...)
}

// holdAt publishes an event and returns when the recorder stops at it. The recorder goes on when
// the test unlocks hold. The recorder must have got all earlier events.
func (f *recorder) holdAt(t *testing.T, publish func()) {
	t.Helper()
	f.hold.Lock()
	before := f.count.Load()
	publish()
	eventually(t, anytime, func() error {
		if f.count.Load() == before {
			return errors.New("the recorder has not got the event")
		}
		return nil
	})
}

// mustReceive waits for an event, and returns all events so far.
func (f *recorder) mustReceive(t *testing.T, event string) []string {
	t.Helper()
	var got []string
	eventually(t, anytime, func() error {
		got = f.received()
		for _, e := range got {
			if e == event {
				return nil
			}
		}
		return fmt.Errorf("none of %d events is %q; the last ones are %q", len(got), event, got[max(0, len(got)-3):])
	})
	return got
}

// mustReportEveryLoss checks the events "publisher:from" to "publisher:to" of one publisher. They
// must be in order and without duplicates. Where events are missing, a gap must be reported. It
// returns the number of missing events and of gaps.
func mustReportEveryLoss(t *testing.T, got []string, publisher, from, to int) (missing, gaps int) {
	t.Helper()
	next, afterGap := from, false
	for _, e := range got {
		var p, n int
		if e == gap {
			gaps++
			afterGap = true
			continue
		}
		if _, err := fmt.Sscanf(e, "%d:%d", &p, &n); err != nil || p != publisher {
			continue
		}
		if n > next && !afterGap || n < next {
			t.Errorf("publisher %d: event %d follows %d without a gap", publisher, n, next-1)
		}
		missing += max(0, n-next)
		next, afterGap = n+1, false
	}
	if next <= to && !afterGap {
		t.Errorf("publisher %d: the last event is %d of %d, without a gap after it", publisher, next-1, to)
	}
	return missing + max(0, to+1-next), gaps
}

// publish publishes the events "publisher:from" to "publisher:to".
func publish(s *redisstore.Store, publisher, from, to int, every time.Duration) {
	for n := from; n <= to; n++ {
		s.Publish(fmt.Appendf(nil, "%d:%d", publisher, n))
		if every > 0 {
			time.Sleep(every)
		}
	}
}

// startWithFollower starts a server and a store, publishes n events of publisher 1, and returns
// when a recorder has got them.
func startWithFollower(t *testing.T, n int) (*redistest.Node, *redisstore.Store, *recorder) {
	t.Helper()
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), withEvents)
	f := follow(t, s)
	publish(s, 1, 1, n, 0)
	f.mustReceive(t, fmt.Sprint("1:", n))
	return node, s, f
}

// withEvents are the options of a store that publishes events.
var withEvents = redisstore.Options{Events: 10_000}

// TestFeedDeliversEventsInOrderWithoutGap publishes a thousand events on two nodes. Every follower
// gets them in order and without a gap. That includes a follower whose store does not publish.
func TestFeedDeliversEventsInOrderWithoutGap(t *testing.T) {
	for _, start := range []func(t *testing.T) string{
		func(t *testing.T) string { return "redis://" + redistest.Start(t, redistest.Options{}).Addr() },
		func(t *testing.T) string { return startCluster(t).url },
	} {
		url := start(t)
		a, b, watch := mustOpen(t, url, withEvents), mustOpen(t, url, withEvents), mustOpen(t, url, redisstore.Options{})
		watch.Publish([]byte("never published"))
		f := []*recorder{follow(t, a), follow(t, b), follow(t, watch)}
		var both sync.WaitGroup
		both.Go(func() { publish(a, 1, 1, 500, time.Millisecond) })
		both.Go(func() { publish(b, 2, 1, 500, 0) })
		both.Wait()
		b.Publish([]byte("end of b"))
		a.Publish([]byte("end of a"))
		for i, f := range f {
			f.mustReceive(t, "end of a")
			got := f.mustReceive(t, "end of b")
			for p := 1; p <= 2; p++ {
				if missing, gaps := mustReportEveryLoss(t, got, p, 1, 500); missing+gaps > 0 || len(got) != 1002 {
					t.Errorf("follower %d got %d events, %d missing, %d gaps, want 1002 events",
						i, len(got), missing, gaps)
				}
			}
		}
	}
}

// TestFeedDeliversRepeatedEntryOnce stores an event twice, as a node does when it gets no reply.
// The follower gets the event once.
func TestFeedDeliversRepeatedEntryOnce(t *testing.T) {
	limitParallel(t)
	node, s, f := startWithFollower(t, 3)
	list, err := node.Do("XREVRANGE", "coatcheck:events", "+", "-", "COUNT", "1")
	must(t, err)
	values := map[string]string{}
	fields := list.([]any)[0].([]any)[1].([]any)
	for i := 0; i < len(fields); i += 2 {
		values[fields[i].(string)] = fields[i+1].(string)
	}
	_, err = node.Do("XADD", "coatcheck:events", "4-0", "mark", "again", "before", values["mark"],
		"node", values["node"], "n", values["n"], "event", values["event"])
	must(t, err)
	publish(s, 1, 4, 6, 0)
	if got := f.mustReceive(t, "1:6"); len(got) != 6 {
		t.Errorf("the follower got %q, want 6 events", got)
	}
}

// TestOpenRefusesBadEventsOption opens stores with lengths of the feed that are out of range.
func TestOpenRefusesBadEventsOption(t *testing.T) {
	for _, n := range []int{-1, 1_000_001} {
		_, err := redisstore.Open(t.Context(), "redis://127.0.0.1:1", redisstore.Options{Events: n})
		if err == nil || !strings.Contains(err.Error(), "Options.Events") {
			t.Errorf("Open with Options.Events %d: %v, want an error that names the option", n, err)
		}
	}
}

// TestManagerEventsReachAnotherProcess follows the events of another process. The follower gets
// sign-ins, ends and expiries, with the user's name.
func TestManagerEventsReachAnotherProcess(t *testing.T) {
	limitParallel(t)
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	key := []byte("01234567890123456789012345678901")
	config := session.Config{Keys: [][]byte{key}, UserKey: key, Seal: true}
	short := config
	short.IdleTimeout = time.Second
	newManager := func(s *redisstore.Store, config session.Config) *session.Manager {
		m, err := session.New(s, config)
		must(t, err)
		return m
	}
	store := mustOpen(t, url, withEvents)
	long, expiring := newManager(store, config), newManager(store, short)
	ctx, cancel := context.WithTimeout(t.Context(), anytime)
	defer cancel()
	events := newManager(mustOpen(t, url, withEvents), short).Events(ctx)
	request := mustLoad(t, long, "")
	s, err := session.From(request)
	must(t, err)
	must(t, s.SignIn(request, session.Login{User: "ada"}))
	first := s.Info().Handle
	must(t, s.SignIn(request, session.Login{User: "ada"})) // replaces the first session
	second := s.Info().Handle
	must(t, s.SignOut(request))
	request = mustLoad(t, expiring, "")
	s, err = session.From(request)
	must(t, err)
	must(t, s.SignIn(request, session.Login{User: "ada"})) // this session expires unused
	third := s.Info().Handle
	want := []session.Event{
		{Kind: session.EventSignedIn, Handle: first, User: "ada"},
		{Kind: session.EventSignedIn, Handle: second, User: "ada", Before: first},
		{Kind: session.EventSignedOut, Handle: second, User: "ada"},
		{Kind: session.EventSignedIn, Handle: third, User: "ada"},
		{Kind: session.EventExpired, Handle: third, User: "ada"},
	}
	var last time.Time
	for e, err := range events {
		must(t, err)
		if e.Time.Before(last) || time.Since(e.Time).Abs() > time.Minute {
			t.Errorf("event %s has the time %v, after one with %v", e.Kind, e.Time, last)
		}
		last, e.Time = e.Time, time.Time{}
		if e != want[0] {
			t.Errorf("got event %+v, want %+v", e, want[0])
		}
		if want = want[1:]; len(want) == 0 {
			return
		}
	}
	t.Errorf("events that did not arrive: %+v", want)
}

// TestClosePublishesWaitingEventsAndEndsFollowers closes a store right after it published. Close
// publishes the events that still wait, and the store's own followers end with ErrClosed. Close
// waits for the events for a second. If the machine stalls for that long, the test closes another
// store.
func TestClosePublishesWaitingEventsAndEndsFollowers(t *testing.T) {
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	f := follow(t, mustOpen(t, url, redisstore.Options{}))
	mustSurviveShort(t, time.Second, func(round int) (time.Time, error) {
		s := mustOpen(t, url, withEvents)
		ended := follow(t, s)
		publish(s, round, 1, 300, 0)
		begin := time.Now()
		must(t, s.Close())
		took := time.Since(begin)
		ended.mustReceive(t, redisstore.ErrClosed.Error())
		s.Publish([]byte("late"))
		if took < time.Second {
			f.mustReceive(t, fmt.Sprint(round, ":300"))
			return begin, nil
		}
		return begin, fmt.Errorf("Close took %v", took)
	})
}
