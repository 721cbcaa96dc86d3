package redisstore_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestFeedReportsGapAfterRestart kills the server while events are published, with and without an
// append-only file. Lost events are reported as a gap, and the feed goes on.
func TestFeedReportsGapAfterRestart(t *testing.T) {
	for name, config := range map[string][]string{
		"AOF":             {"appendonly yes", "appendfsync always"},
		"nothing on disk": nil,
	} {
		t.Run(name, func(t *testing.T) {
			limitParallel(t)
			node := redistest.Start(t, redistest.Options{Config: config})
			url := "redis://" + node.Addr()
			s, other := mustOpen(t, url, withEvents), mustOpen(t, url, withEvents)
			f := follow(t, other)
			publish(s, 1, 1, 200, time.Millisecond)
			f.mustReceive(t, "1:200")
			for round := range 3 {
				var all sync.WaitGroup
				all.Go(func() { publish(s, 1, 201+200*round, 400+200*round, 3*time.Millisecond) })
				time.Sleep(200 * time.Millisecond)
				must(t, node.Kill())
				time.Sleep(50 * time.Millisecond)
				must(t, node.Restart())
				all.Wait()
			}
			late := follow(t, other)
			s.Publish([]byte("end"))
			got := f.mustReceive(t, "end")
			missing, gaps := mustReportEveryLoss(t, got, 1, 1, 800)
			t.Logf("%d events are missing, %d gaps reported", missing, gaps)
			if config != nil && missing+gaps > 0 {
				t.Errorf("with all events on disk, %d are missing and %d gaps reported, want none", missing, gaps)
			}
			if config == nil && gaps == 0 {
				t.Error("the server lost all events, but no gap is reported")
			}
			late.mustReceive(t, "end")
		})
	}
}

// TestFeedReportsGapAfterStreamIsDeleted deletes the stream twice. The first time no event follows.
// The second time the new stream is longer than the old one before the follower looks.
func TestFeedReportsGapAfterStreamIsDeleted(t *testing.T) {
	limitParallel(t)
	node, s, f := startWithFollower(t, 5)
	_, err := node.Do("DEL", "coatcheck:events")
	must(t, err)
	f.mustReceive(t, gap)
	publish(s, 1, 6, 8, 0)
	f.mustReceive(t, "1:8")
	f.holdAt(t, func() { publish(s, 1, 9, 9, 0) })
	_, err = node.Do("DEL", "coatcheck:events")
	must(t, err)
	publish(s, 1, 10, 60, 0)
	mustHaveEntries(t, node, 51)
	f.hold.Unlock()
	got := f.mustReceive(t, "1:60")
	if missing, gaps := mustReportEveryLoss(t, got, 1, 1, 60); missing != 0 || gaps != 2 {
		t.Errorf("%d events are missing, %d gaps reported, want 0 and 2: %q", missing, gaps, got)
	}
}

// TestFeedFollowersIdleAfterStreamIsTrimmedToZero trims the stream to zero entries and adds an
// entry by hand. The followers then wait for events and do not poll in a loop. The feed goes on.
func TestFeedFollowersIdleAfterStreamIsTrimmedToZero(t *testing.T) {
	limitParallel(t)
	node, s, f := startWithFollower(t, 5)
	_, err := node.Do("XTRIM", "coatcheck:events", "MAXLEN", "0")
	must(t, err)
	publish(s, 1, 6, 8, 0)
	f.mustReceive(t, "1:8")
	late := follow(t, s)
	_, err = node.Do("XADD", "coatcheck:events", "3-7", "made", "up")
	must(t, err)
	eventually(t, anytime, func() error {
		if n := infoNumber(t, node, "clients", `blocked_clients:(\d+)`); n != 2 {
			return fmt.Errorf("%d followers wait for events, want 2", n)
		}
		return nil
	})
	// An idle follower sends a command or two a second, so this takes a second.
	begin := time.Now()
	before := commandCalls(t, node, "xrange") + commandCalls(t, node, "xread")
	time.Sleep(time.Second)
	calls := commandCalls(t, node, "xrange") + commandCalls(t, node, "xread") - before
	if took := time.Since(begin); float64(calls) > 10*took.Seconds() {
		t.Errorf("two idle followers sent %d commands in %v, want at most 10 a second", calls, took)
	}
	publish(s, 1, 9, 12, 0)
	f.mustReceive(t, "1:12")
	got := late.mustReceive(t, "1:12")
	if missing, gaps := mustReportEveryLoss(t, got, 1, 9, 12); missing != 0 || gaps > 1 {
		t.Errorf("%d events are missing, %d gaps reported, want 0 and at most 1: %q", missing, gaps, got)
	}
}

// TestFeedReportsGapAfterFailover replaces the primary while two nodes publish. Events that the old
// primary lost are reported as a gap.
func TestFeedReportsGapAfterFailover(t *testing.T) {
	for _, topology := range failoverTopologies {
		for _, how := range []string{"planned", "kill -9"} {
			t.Run(topology.name+", "+how, func(t *testing.T) {
				limitParallel(t)
				r := topology.start(t)
				a, b := mustOpen(t, r.url, withEvents), mustOpen(t, r.url, withEvents)
				f := []*recorder{follow(t, a), follow(t, b)}
				var all sync.WaitGroup
				const each = 2000
				all.Go(func() { publish(a, 1, 1, each, 2*time.Millisecond) })
				all.Go(func() { publish(b, 2, 1, each, 2*time.Millisecond) })
				time.Sleep(500 * time.Millisecond)
				if how == "planned" {
					must(t, r.failover("coatcheck:events"))
				} else {
					primaries, err := r.primaries()
					must(t, err)
					for _, p := range primaries { // kill the one that has the feed
						if keys, err := p.Do("EXISTS", "coatcheck:events"); err == nil && keys == int64(1) {
							r.mustReplace(t, p, p.Kill)
							break
						}
					}
				}
				all.Wait()
				must(t, r.settle())
				a.Publish([]byte("end of a"))
				b.Publish([]byte("end of b"))
				for i, f := range f {
					f.mustReceive(t, "end of a")
					got := f.mustReceive(t, "end of b")
					for p := 1; p <= 2; p++ {
						missing, gaps := mustReportEveryLoss(t, got, p, 1, each)
						t.Logf("follower %d, publisher %d: %d of %d events are missing, %d gaps reported",
							i, p, missing, each, gaps)
					}
				}
			})
		}
	}
}

// TestFeedReportsGapAfterQueueOverflow publishes more events than the queue holds while the server
// hangs. The lost events are reported as a gap, although no event follows. Publish never blocks.
func TestFeedReportsGapAfterQueueOverflow(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	url := "redis://" + node.Addr()
	s, other := mustOpen(t, url, withEvents), mustOpen(t, url, redisstore.Options{})
	f := follow(t, other)
	publish(s, 1, 1, 10, 0)
	f.mustReceive(t, "1:10")
	must(t, node.Pause())
	watch := startStopwatch()
	publish(s, 1, 11, 8000, 0)
	if took := watch.elapsed(); took > time.Second {
		t.Errorf("publishing took %v while the server hung, want at most 1s", took)
	}
	time.Sleep(500 * time.Millisecond)
	must(t, node.Resume())
	got := f.mustReceive(t, gap)
	missing, gaps := mustReportEveryLoss(t, got, 1, 1, 8000)
	if missing < 3000 || gaps != 1 {
		t.Errorf("%d events are missing, %d gaps reported, want at least 3000 and 1", missing, gaps)
	}
	publish(s, 1, 8001, 8010, 0)
	got = f.mustReceive(t, "1:8010")
	if _, gaps := mustReportEveryLoss(t, got, 1, 1, 8010); gaps != 1 {
		t.Errorf("%d gaps are reported after later events, want 1", gaps)
	}
}

// TestFeedReportsUnknownEntryAsGap adds an entry in another format. The follower reports a gap and
// goes on.
func TestFeedReportsUnknownEntryAsGap(t *testing.T) {
	limitParallel(t)
	node, s, f := startWithFollower(t, 3)
	_, err := node.Do("XADD", "coatcheck:events", "*", "hello", "world")
	must(t, err)
	f.mustReceive(t, gap)
	publish(s, 1, 4, 6, 0)
	got := f.mustReceive(t, "1:6")
	if missing, gaps := mustReportEveryLoss(t, got, 1, 1, 6); missing != 0 || gaps > 2 {
		t.Errorf("%d events are missing, %d gaps reported, want 0 and at most 2: %q", missing, gaps, got)
	}
}

// TestFeedReportsGapToSlowFollower trims the stream before a slow follower has read it. The
// follower reports a gap, and the stream stays short.
func TestFeedReportsGapToSlowFollower(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	url := "redis://" + node.Addr()
	s := mustOpen(t, url, redisstore.Options{Events: 100})
	f := follow(t, s)
	// A follower that is only slow to start could meet two trims.
	f.holdAt(t, func() { publish(s, 1, 1, 1, 0) })
	publish(s, 1, 2, 3000, 0)
	s.Publish([]byte("end"))
	eventually(t, anytime, func() error {
		last, err := node.Do("XREVRANGE", "coatcheck:events", "+", "-", "COUNT", "1")
		if err != nil || !strings.HasPrefix(fmt.Sprint(last), "[[3001-0 ") {
			return fmt.Errorf("the last entry is %v, want 3001-0 (error %w)", last, err)
		}
		return nil
	})
	n, err := node.Do("XLEN", "coatcheck:events")
	must(t, err)
	if n := n.(int64); n < 100 || n > 400 { // the server trims whole blocks of 100 entries
		t.Errorf("the stream has %d entries, want 100 to 400", n)
	}
	f.hold.Unlock()
	got := f.mustReceive(t, "end")
	if missing, gaps := mustReportEveryLoss(t, got, 1, 1, 3000); missing == 0 || gaps != 1 {
		t.Errorf("%d events are missing, %d gaps reported, want some and 1", missing, gaps)
	}
}

// TestFeedReportsGapOfPublisherNotSeenBefore plays a failover that loses the events of a publisher
// from which the follower has got no event yet. The follower reports a gap.
func TestFeedReportsGapOfPublisherNotSeenBefore(t *testing.T) {
	limitParallel(t)
	const key = "coatcheck:events"
	node := redistest.Start(t, redistest.Options{})
	a, b := mustOpen(t, "redis://"+node.Addr(), withEvents), mustOpen(t, "redis://"+node.Addr(), withEvents)
	publish(a, 1, 1, 5, 0)
	mustHaveEntries(t, node, 5)
	f := follow(t, b)
	f.holdAt(t, func() { publish(b, 2, 1, 1, 0) })
	dump, err := node.Do("DUMP", key)
	must(t, err)
	publish(a, 1, 6, 9, 0)
	mustHaveEntries(t, node, 10)
	_, err = node.Do("RESTORE", key, "0", dump.(string), "REPLACE")
	must(t, err)
	publish(a, 1, 10, 10, 0)
	f.hold.Unlock()
	if got := f.mustReceive(t, "1:10"); len(got) != 3 || got[1] != gap {
		t.Errorf("the follower got %q, want a gap before the last event", got)
	}
}

// mustHaveEntries waits until the stream has this many entries.
func mustHaveEntries(t *testing.T, node *redistest.Node, want int64) {
	t.Helper()
	eventually(t, anytime, func() error {
		if n, err := node.Do("XLEN", "coatcheck:events"); err != nil || n != want {
			return fmt.Errorf("the stream has %v entries, error %v, want %d", n, err, want)
		}
		return nil
	})
}
