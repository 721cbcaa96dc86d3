package redisstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// These helpers keep tests right on a machine that stalls for a second or two.

// patient returns options with which a slow or stopped machine fails no operation, unless an
// operation must not be repeated: then a stop of 2 s is too long. Use it in tests that are not
// about time limits.
func patient(o redisstore.Options) redisstore.Options {
	o.Timeout = 30 * time.Second
	change := o.Client
	o.Client = func(c *rueidis.ClientOption) {
		c.Dialer.Timeout = o.Timeout
		if change != nil {
			change(c)
		}
	}
	return o
}

// calm are patient options with which no copy is distrusted because the servers were not asked in
// time. For such a store, a stall is no outage.
var calm = patient(redisstore.Options{Lease: anytime})

// never is a redistest.Options.DownAfter with which no primary is replaced because of a stall.
const never = time.Hour

// soon replaces a killed primary quickly.
const soon = time.Second

// steady are the options of servers that replace no primary by themselves.
var steady = redistest.Options{DownAfter: never}

// anytime is how long a test waits for something that only has to happen at all.
const anytime = time.Minute

// runClock measures the time in which this process runs. It does not advance while the machine
// stalls.
var runClock struct {
	sync.Mutex
	ran  time.Duration
	last time.Time
}

// mostLate is how much a busy machine may delay a goroutine. A longer delay is a stall.
const mostLate = 50 * time.Millisecond

// keepRunClock advances runClock until the process ends.
func keepRunClock() {
	readRunClock()
	for {
		time.Sleep(mostLate / 5)
		readRunClock()
	}
}

func readRunClock() time.Duration {
	runClock.Lock()
	defer runClock.Unlock()
	now := time.Now()
	if !runClock.last.IsZero() {
		runClock.ran += min(now.Sub(runClock.last), mostLate)
	}
	runClock.last = now
	return runClock.ran
}

// stopwatch measures a time with and without stalls.
type stopwatch struct {
	begin time.Time
	ran   time.Duration
}

func startStopwatch() stopwatch { return stopwatch{time.Now(), readRunClock()} }

// elapsed returns the time without stalls. Use it for upper bounds.
func (w stopwatch) elapsed() time.Duration { return readRunClock() - w.ran }

// stalls returns how long the machine has stalled.
func (w stopwatch) stalls() time.Duration { return time.Since(w.begin) - w.elapsed() }

// mustSurviveShort plays a fault that is shorter than the limit, and checks that nothing fails. The
// function play returns when the fault began, and the first failure. A failure after the limit
// shows nothing, because the machine has made the fault longer. Then the fault is played again.
func mustSurviveShort(t *testing.T, limit time.Duration, play func(round int) (began time.Time, failure error)) {
	t.Helper()
	for round := range 20 {
		began, err := play(round)
		if err == nil {
			return
		}
		if took := time.Since(began); took < limit {
			t.Fatalf("%v after the fault began: %v", took, err)
		}
		t.Logf("the fault was longer than %v: %v", limit, err)
	}
	t.Fatalf("there is a failure in each of 20 faults, more than %v after it began", limit)
}
