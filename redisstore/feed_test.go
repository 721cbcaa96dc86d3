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

const gap = "GAP"

// followed is what one who follows was told.
type recorder struct {
	mu     sync.Mutex
	events []string
	hold   sync.Mutex   // who has it stops the follower
	came   atomic.Int64 // events the follower was given, the one included that it stands at
}

func follow(t *testing.T, s *redisstore.Store) *recorder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, err := s.Follow(ctx)
	must(t, err)
	f, done := &recorder{}, make(chan struct{})
	go func() {
		defer close(done)
		for b, err := range events {
			f.came.Add(1)
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

// got returns what has come so far.
func (f *recorder) received() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.events...)
}

// stop publishes an event, and returns when the follower stands still at it, until f.hold is unlocked. The follower must have been given all
// that was published before.
func (f *recorder) holdAt(t *testing.T, publish func()) {
	t.Helper()
	f.hold.Lock()
	before := f.came.Load()
	publish()
	eventually(t, 5*time.Second, func() error {
		if f.came.Load() == before {
			return errors.New("the follower was given nothing")
		}
		return nil
	})
}

// until waits for an event.
func (f *recorder) mustReceive(t *testing.T, limit time.Duration, event string) []string {
	t.Helper()
	var got []string
	eventually(t, limit, func() error {
		got = f.received()
		for _, e := range got {
			if e == event {
				return nil
			}
		}
		return fmt.Errorf("of %d events none is %q; the last ones are %q", len(got), event, got[max(0, len(got)-3):])
	})
	return got
}

// mustReportEveryLoss checks that of the events "<from> to <to>" of one publisher each came, in order, or there is a gap where it is missing; and
// none came twice without one. It returns how many are missing, and how many gaps there are.
func mustReportEveryLoss(t *testing.T, got []string, publisher, from, to int) (missing, gaps int) {
	t.Helper()
	next, excused := from, false
	for _, e := range got {
		var p, n int
		if e == gap {
			gaps++
			excused = true
			continue
		}
		if _, err := fmt.Sscanf(e, "%d:%d", &p, &n); err != nil || p != publisher {
			continue
		}
		if n > next && !excused || n < next {
			t.Errorf("publisher %d: event %d came after %d, and no gap between them", publisher, n, next-1)
		}
		missing += max(0, n-next)
		next, excused = n+1, false
	}
	if next <= to && !excused {
		t.Errorf("publisher %d: the last event is %d of %d, and no gap after it", publisher, next-1, to)
	}
	return missing + max(0, to+1-next), gaps
}

func publish(s *redisstore.Store, publisher, from, to int, every time.Duration) {
	for n := from; n <= to; n++ {
		s.Publish(fmt.Appendf(nil, "%d:%d", publisher, n))
		if every > 0 {
			time.Sleep(every)
		}
	}
}

// startWithFollower starts a server and a store whose one follower was told of n events of publisher 1.
func startWithFollower(t *testing.T, n int) (*redistest.Node, *redisstore.Store, *recorder) {
	t.Helper()
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), withEvents)
	f := follow(t, s)
	publish(s, 1, 1, n, 0)
	f.mustReceive(t, 5*time.Second, fmt.Sprint("1:", n))
	return node, s, f
}

var withEvents = redisstore.Options{Events: 10_000}

// TestFeedDeliversEventsInOrderWithoutGap: a thousand events of two nodes, in order, without a gap, for one who only follows, too.
func TestFeedDeliversEventsInOrderWithoutGap(t *testing.T) {
	for _, start := range []func(t *testing.T) string{
		func(t *testing.T) string { return "redis://" + redistest.Start(t, redistest.Options{}).Addr() },
		func(t *testing.T) string { return startCluster(t).url },
	} {
		url := start(t)
		a, b, watch := mustOpen(t, url, withEvents), mustOpen(t, url, withEvents), mustOpen(t, url, redisstore.Options{})
		watch.Publish([]byte("nobody hears this"))
		f := []*recorder{follow(t, a), follow(t, b), follow(t, watch)}
		var both sync.WaitGroup
		both.Go(func() { publish(a, 1, 1, 500, time.Millisecond) })
		both.Go(func() { publish(b, 2, 1, 500, 0) })
		both.Wait()
		b.Publish([]byte("end of b"))
		a.Publish([]byte("end of a"))
		for i, f := range f {
			f.mustReceive(t, 10*time.Second, "end of a")
			got := f.mustReceive(t, 10*time.Second, "end of b")
			for p := 1; p <= 2; p++ {
				if missing, gaps := mustReportEveryLoss(t, got, p, 1, 500); missing+gaps > 0 || len(got) != 1002 {
					t.Errorf("follower %d: %d events, %d missing, %d gaps", i, len(got), missing, gaps)
				}
			}
		}
	}
}

// TestFeedDeliversRepeatedEntryOnce: what was published twice, since the answer was lost, is told once.
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
	_, err = node.Do("XADD", "coatcheck:events", "4-0", "mark", "again", "before", values["mark"], "node", values["node"], "n", values["n"],
		"event", values["event"])
	must(t, err)
	publish(s, 1, 4, 6, 0)
	if got := f.mustReceive(t, 5*time.Second, "1:6"); len(got) != 6 {
		t.Errorf("%q", got)
	}
}

// TestOpenRefusesBadEventsOption: a length that is none is refused.
func TestOpenRefusesBadEventsOption(t *testing.T) {
	for _, n := range []int{-1, 1_000_001} {
		_, err := redisstore.Open(t.Context(), "redis://127.0.0.1:1", redisstore.Options{Events: n})
		if err == nil || !strings.Contains(err.Error(), "Options.Events") {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// TestManagerEventsReachAnotherProcess: a process hears of what happened in another, by name: sign-ins, ends, and sessions that expired there.
func TestManagerEventsReachAnotherProcess(t *testing.T) {
	limitParallel(t)
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	key := []byte("01234567890123456789012345678901")
	config := session.Config{Keys: [][]byte{key}, UserKey: key, Seal: true, IdleTimeout: time.Second}
	var managers []*session.Manager
	for range 2 {
		m, err := session.New(mustOpen(t, url, withEvents), config)
		must(t, err)
		managers = append(managers, m)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	events := managers[1].Events(ctx)
	request := managers[0].Load(t.Context(), nil)
	s, err := session.From(request)
	must(t, err)
	must(t, s.SignIn(request, session.Login{User: "ada"}))
	first := s.Info().Handle
	must(t, s.SignIn(request, session.Login{User: "ada"})) // in place of the first
	second := s.Info().Handle
	must(t, s.SignOut(request))
	must(t, s.SignIn(request, session.Login{User: "ada"})) // and is not seen again
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
			t.Errorf("%s is of %v, after %v", e.Kind, e.Time, last)
		}
		last, e.Time = e.Time, time.Time{}
		if e != want[0] {
			t.Errorf("told of %+v, want %+v", e, want[0])
		}
		if want = want[1:]; len(want) == 0 {
			return
		}
	}
	t.Errorf("not told of %+v", want)
}

// TestClosePublishesWaitingEventsAndEndsFollowers: what waits is published, and who follows is told that it is over.
func TestClosePublishesWaitingEventsAndEndsFollowers(t *testing.T) {
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	s, other := mustOpen(t, url, withEvents), mustOpen(t, url, redisstore.Options{})
	f, ended := follow(t, other), follow(t, s)
	publish(s, 1, 1, 300, 0)
	must(t, s.Close())
	f.mustReceive(t, 5*time.Second, "1:300")
	ended.mustReceive(t, 5*time.Second, redisstore.ErrClosed.Error())
	s.Publish([]byte("late"))
}
