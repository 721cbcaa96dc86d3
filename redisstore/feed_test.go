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
type followed struct {
	mu     sync.Mutex
	events []string
	hold   sync.Mutex   // who has it stops the follower
	came   atomic.Int64 // events the follower was given, the one included that it stands at
}

func follow(t *testing.T, s *redisstore.Store) *followed {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, err := s.Follow(ctx)
	ok(t, err)
	f, done := &followed{}, make(chan struct{})
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
func (f *followed) got() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.events...)
}

// stop publishes an event, and returns when the follower stands still at it, until f.hold is unlocked. The follower must have been given all
// that was published before.
func (f *followed) stop(t *testing.T, publish func()) {
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
func (f *followed) until(t *testing.T, limit time.Duration, event string) []string {
	t.Helper()
	var got []string
	eventually(t, limit, func() error {
		got = f.got()
		for _, e := range got {
			if e == event {
				return nil
			}
		}
		return fmt.Errorf("of %d events none is %q; the last ones are %q", len(got), event, got[max(0, len(got)-3):])
	})
	return got
}

// checkNoSilence checks that of the events "<from> to <to>" of one publisher each came, in order, or there is a gap where it is missing; and
// none came twice without one. It returns how many are missing, and how many gaps there are.
func checkNoSilence(t *testing.T, got []string, publisher, from, to int) (missing, gaps int) {
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

// startFollowed starts a server and a store whose one follower was told of n events of publisher 1.
func startFollowed(t *testing.T, n int) (*redistest.Node, *redisstore.Store, *followed) {
	t.Helper()
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), publishing)
	f := follow(t, s)
	publish(s, 1, 1, n, 0)
	f.until(t, 5*time.Second, fmt.Sprint("1:", n))
	return node, s, f
}

var publishing = redisstore.Options{Events: 10_000}

// TestFeedThousand: a thousand events of two nodes, in order, without a gap, for one who only follows, too.
func TestFeedThousand(t *testing.T) {
	for _, start := range []func(t *testing.T) string{
		func(t *testing.T) string { return "redis://" + redistest.Start(t, redistest.Options{}).Addr() },
		func(t *testing.T) string { return startCluster(t).url },
	} {
		url := start(t)
		a, b, watch := open(t, url, publishing), open(t, url, publishing), open(t, url, redisstore.Options{})
		watch.Publish([]byte("nobody hears this"))
		f := []*followed{follow(t, a), follow(t, b), follow(t, watch)}
		var both sync.WaitGroup
		both.Go(func() { publish(a, 1, 1, 500, time.Millisecond) })
		both.Go(func() { publish(b, 2, 1, 500, 0) })
		both.Wait()
		b.Publish([]byte("end of b"))
		a.Publish([]byte("end of a"))
		for i, f := range f {
			f.until(t, 10*time.Second, "end of a")
			got := f.until(t, 10*time.Second, "end of b")
			for p := 1; p <= 2; p++ {
				if missing, gaps := checkNoSilence(t, got, p, 1, 500); missing+gaps > 0 || len(got) != 1002 {
					t.Errorf("follower %d: %d events, %d missing, %d gaps", i, len(got), missing, gaps)
				}
			}
		}
	}
}

// TestFeedRestart kills the server under way, with a file and without. What was lost is a gap, and the feed goes on.
func TestFeedRestart(t *testing.T) {
	for name, config := range map[string][]string{"AOF": {"appendonly yes", "appendfsync always"}, "nothing on disk": nil} {
		t.Run(name, func(t *testing.T) {
			few(t)
			node := redistest.Start(t, redistest.Options{Config: config})
			url := "redis://" + node.Addr()
			s, other := open(t, url, publishing), open(t, url, publishing)
			f := follow(t, other)
			publish(s, 1, 1, 200, time.Millisecond)
			f.until(t, 5*time.Second, "1:200")
			for round := range 3 {
				var all sync.WaitGroup
				all.Go(func() { publish(s, 1, 201+200*round, 400+200*round, 3*time.Millisecond) })
				time.Sleep(200 * time.Millisecond)
				ok(t, node.Kill())
				time.Sleep(50 * time.Millisecond)
				ok(t, node.Restart())
				all.Wait()
			}
			late := follow(t, other)
			s.Publish([]byte("end"))
			got := f.until(t, 15*time.Second, "end")
			missing, gaps := checkNoSilence(t, got, 1, 1, 800)
			t.Logf("%d events are missing, and there are %d gaps", missing, gaps)
			if config != nil && missing+gaps > 0 {
				t.Errorf("with all on disk %d are missing, and there are %d gaps", missing, gaps)
			}
			if config == nil && gaps == 0 {
				t.Error("the server lost everything, and there is no gap")
			}
			late.until(t, 5*time.Second, "end")
		})
	}
}

// TestFeedEmptied: all is gone while nobody publishes, and then again while the numbers grow past those that were there.
func TestFeedEmptied(t *testing.T) {
	few(t)
	node, s, f := startFollowed(t, 5)
	_, err := node.Do("DEL", "coatcheck:events")
	ok(t, err)
	f.until(t, 5*time.Second, gap)
	publish(s, 1, 6, 8, 0)
	f.until(t, 5*time.Second, "1:8")
	f.stop(t, func() { publish(s, 1, 9, 9, 0) })
	_, err = node.Do("DEL", "coatcheck:events")
	ok(t, err)
	publish(s, 1, 10, 60, 0)
	time.Sleep(300 * time.Millisecond)
	f.hold.Unlock()
	got := f.until(t, 5*time.Second, "1:60")
	if missing, gaps := checkNoSilence(t, got, 1, 1, 60); missing != 0 || gaps != 2 {
		t.Errorf("%d missing, %d gaps, want none and 2: %q", missing, gaps, got)
	}
}

// TestFeedCleared: somebody cuts the stream down to nothing, where the server remembers the last number, and adds entries by hand. It goes on, and nobody
// goes round in circles.
func TestFeedCleared(t *testing.T) {
	few(t)
	node, s, f := startFollowed(t, 5)
	_, err := node.Do("XTRIM", "coatcheck:events", "MAXLEN", "0")
	ok(t, err)
	publish(s, 1, 6, 8, 0)
	f.until(t, 5*time.Second, "1:8")
	late := follow(t, s)
	_, err = node.Do("XADD", "coatcheck:events", "3-7", "made", "up")
	ok(t, err)
	time.Sleep(2 * time.Second)
	before := callsOf(t, node, "xrange") + callsOf(t, node, "xread")
	time.Sleep(2 * time.Second)
	if n := callsOf(t, node, "xrange") + callsOf(t, node, "xread") - before; n > 20 {
		t.Errorf("while nothing happened two followers sent %d commands in two seconds", n)
	}
	publish(s, 1, 9, 12, 0)
	f.until(t, 5*time.Second, "1:12")
	got := late.until(t, 5*time.Second, "1:12")
	if missing, gaps := checkNoSilence(t, got, 1, 9, 12); missing != 0 || gaps > 1 {
		t.Errorf("%d missing, %d gaps: %q", missing, gaps, got)
	}
}

// callsOf is how often a server has run a command.
func callsOf(t *testing.T, node *redistest.Node, command string) (calls int) {
	t.Helper()
	stats, err := node.Do("INFO", "commandstats")
	ok(t, err)
	if _, rest, found := strings.Cut(stats.(string), "cmdstat_"+command+":calls="); found {
		_, err = fmt.Sscanf(rest, "%d", &calls)
		ok(t, err)
	}
	return calls
}

// TestFeedFailover replaces the primary while two nodes publish: what it lost is a gap.
func TestFeedFailover(t *testing.T) {
	for _, topology := range replacing {
		for _, how := range []string{"planned", "kill -9"} {
			t.Run(topology.name+", "+how, func(t *testing.T) {
				few(t)
				r := topology.start(t)
				a, b := open(t, r.url, publishing), open(t, r.url, publishing)
				f := []*followed{follow(t, a), follow(t, b)}
				var all sync.WaitGroup
				const each = 2000
				all.Go(func() { publish(a, 1, 1, each, 2*time.Millisecond) })
				all.Go(func() { publish(b, 2, 1, each, 2*time.Millisecond) })
				time.Sleep(500 * time.Millisecond)
				if how == "planned" {
					ok(t, r.planned())
				} else {
					primaries, err := r.primaries()
					ok(t, err)
					for _, p := range primaries { // the one that has the feed is among them
						if keys, err := p.Do("EXISTS", "coatcheck:events"); err == nil && keys == int64(1) {
							ok(t, p.Kill())
							break
						}
					}
				}
				all.Wait()
				ok(t, r.settle())
				a.Publish([]byte("end of a"))
				b.Publish([]byte("end of b"))
				for i, f := range f {
					f.until(t, 20*time.Second, "end of a")
					got := f.until(t, 20*time.Second, "end of b")
					for p := 1; p <= 2; p++ {
						missing, gaps := checkNoSilence(t, got, p, 1, each)
						t.Logf("follower %d, publisher %d: %d of %d are missing, %d gaps", i, p, missing, each, gaps)
					}
				}
			})
		}
	}
}

// TestFeedOverflow: more than the queue holds while the server stands still is a gap, also if nothing follows; no publisher waits.
func TestFeedOverflow(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	url := "redis://" + node.Addr()
	s, other := open(t, url, publishing), open(t, url, redisstore.Options{})
	f := follow(t, other)
	publish(s, 1, 1, 10, 0)
	f.until(t, 5*time.Second, "1:10")
	ok(t, node.Pause())
	begin := time.Now()
	publish(s, 1, 11, 8000, 0)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("publishing took %v while the server stood still", took)
	}
	time.Sleep(500 * time.Millisecond)
	ok(t, node.Resume())
	got := f.until(t, 20*time.Second, gap)
	missing, gaps := checkNoSilence(t, got, 1, 1, 8000)
	if missing < 3000 || gaps != 1 {
		t.Errorf("%d missing, %d gaps", missing, gaps)
	}
	publish(s, 1, 8001, 8010, 0)
	got = f.until(t, 5*time.Second, "1:8010")
	if _, gaps := checkNoSilence(t, got, 1, 1, 8010); gaps != 1 {
		t.Errorf("%d gaps", gaps)
	}
}

// TestFeedForeign: an entry of another format is a gap, and no more.
func TestFeedForeign(t *testing.T) {
	few(t)
	node, s, f := startFollowed(t, 3)
	_, err := node.Do("XADD", "coatcheck:events", "*", "hello", "world")
	ok(t, err)
	f.until(t, 5*time.Second, gap)
	publish(s, 1, 4, 6, 0)
	got := f.until(t, 5*time.Second, "1:6")
	if missing, gaps := checkNoSilence(t, got, 1, 1, 6); missing != 0 || gaps > 2 {
		t.Errorf("%q", got)
	}
}

// TestFeedRepeated: what was published twice, since the answer was lost, is told once.
func TestFeedRepeated(t *testing.T) {
	few(t)
	node, s, f := startFollowed(t, 3)
	list, err := node.Do("XREVRANGE", "coatcheck:events", "+", "-", "COUNT", "1")
	ok(t, err)
	values := map[string]string{}
	fields := list.([]any)[0].([]any)[1].([]any)
	for i := 0; i < len(fields); i += 2 {
		values[fields[i].(string)] = fields[i+1].(string)
	}
	_, err = node.Do("XADD", "coatcheck:events", "4-0", "mark", "again", "before", values["mark"], "node", values["node"], "n", values["n"],
		"event", values["event"])
	ok(t, err)
	publish(s, 1, 4, 6, 0)
	if got := f.until(t, 5*time.Second, "1:6"); len(got) != 6 {
		t.Errorf("%q", got)
	}
}

// TestFeedTrimmed: who follows too slowly finds a gap where the stream was cut; the stream stays short.
func TestFeedTrimmed(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	url := "redis://" + node.Addr()
	s := open(t, url, redisstore.Options{Events: 100})
	f := follow(t, s)
	f.stop(t, func() { publish(s, 1, 1, 1, 0) }) // so that it meets the cut once: one that is slow to start would meet it twice
	publish(s, 1, 2, 3000, 0)
	s.Publish([]byte("end"))
	eventually(t, 5*time.Second, func() error {
		last, err := node.Do("XREVRANGE", "coatcheck:events", "+", "-", "COUNT", "1")
		if err != nil || !strings.HasPrefix(fmt.Sprint(last), "[[3001-0 ") {
			return fmt.Errorf("%v, %w", last, err)
		}
		return nil
	})
	n, err := node.Do("XLEN", "coatcheck:events")
	ok(t, err)
	if n := n.(int64); n < 100 || n > 400 { // whole nodes of the server's are cut off, of 100 entries
		t.Errorf("the stream has %d entries", n)
	}
	f.hold.Unlock()
	got := f.until(t, 5*time.Second, "end")
	if missing, gaps := checkNoSilence(t, got, 1, 1, 3000); missing == 0 || gaps != 1 {
		t.Errorf("%d missing, %d gaps", missing, gaps)
	}
}

// TestFeedOptions: a length that is none is refused.
func TestFeedOptions(t *testing.T) {
	for _, n := range []int{-1, 1_000_001} {
		_, err := redisstore.Open(t.Context(), "redis://127.0.0.1:1", redisstore.Options{Events: n})
		if err == nil || !strings.Contains(err.Error(), "Options.Events") {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// TestFeedOfManagers: a process hears of what happened in another, by name: sign-ins, ends, and sessions that expired there.
func TestFeedOfManagers(t *testing.T) {
	few(t)
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	key := []byte("01234567890123456789012345678901")
	config := session.Config{Keys: [][]byte{key}, UserKey: key, Seal: true, IdleTimeout: time.Second}
	var managers []*session.Manager
	for range 2 {
		m, err := session.New(open(t, url, publishing), config)
		ok(t, err)
		managers = append(managers, m)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	events := managers[1].Events(ctx)
	request := managers[0].Load(t.Context(), nil)
	s, err := session.From(request)
	ok(t, err)
	ok(t, s.SignIn(request, session.Login{User: "ada"}))
	first := s.Info().Handle
	ok(t, s.SignIn(request, session.Login{User: "ada"})) // in place of the first
	second := s.Info().Handle
	ok(t, s.SignOut(request))
	ok(t, s.SignIn(request, session.Login{User: "ada"})) // and is not seen again
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
		ok(t, err)
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

// TestFeedClose: what waits is published, and who follows is told that it is over.
func TestFeedClose(t *testing.T) {
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	s, other := open(t, url, publishing), open(t, url, redisstore.Options{})
	f, ended := follow(t, other), follow(t, s)
	publish(s, 1, 1, 300, 0)
	ok(t, s.Close())
	f.until(t, 5*time.Second, "1:300")
	ended.until(t, 5*time.Second, redisstore.ErrClosed.Error())
	s.Publish([]byte("late"))
}
