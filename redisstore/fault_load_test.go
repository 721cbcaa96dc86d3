package redisstore_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
)

// load counts in sessions while something happens to the servers, and keeps account of what it was told.
type load struct {
	t        *testing.T
	store    *redisstore.Store
	visitors []*visitor
	stop     func()

	slowest atomic.Int64 // nanoseconds
	last    atomic.Int64 // when a change was last acknowledged
	refused atomic.Int64
	example atomic.Value // an error
}

// counted is one session, and what is known of its counter.
type visitor struct {
	id           driver.ID
	origin       *driver.Origin
	acknowledged atomic.Int64
	unknown      atomic.Int64
}

// startLoad creates sessions, as many as workers, and has each worker count in all of them in turn.
func startLoad(t *testing.T, s *redisstore.Store, workers int) *load {
	t.Helper()
	l := &load{t: t, store: s}
	for range workers {
		c := &visitor{}
		c.id, c.origin = newSession()
		mustCreate(t, s, c.id, c.origin)
		l.visitors = append(l.visitors, c)
	}
	done := make(chan struct{})
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := w; ; i++ {
				select {
				case <-done:
					return
				default:
					l.count(l.visitors[i%workers])
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() { close(done); all.Wait() })
	t.Cleanup(l.stop)
	return l
}

func (l *load) count(c *visitor) {
	begin := time.Now()
	_, err := l.store.Apply(l.t.Context(), c.id, increment(c.origin))
	for took := int64(time.Since(begin)); ; {
		if old := l.slowest.Load(); took <= old || l.slowest.CompareAndSwap(old, took) {
			break
		}
	}
	switch {
	case err == nil:
		c.acknowledged.Add(1)
		l.last.Store(time.Now().UnixNano())
		return
	case errors.Is(err, driver.ErrUnknown):
		c.unknown.Add(1)
	case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved):
		l.t.Errorf("a visitor lost the session: %v", err)
		time.Sleep(time.Second)
	default:
		l.refused.Add(1)
	}
	l.example.Store(err.Error())
	time.Sleep(2 * time.Millisecond)
}

// recovers waits until changes are acknowledged again, and reports how long that took since something happened.
func (l *load) mustRecover(since time.Time) {
	l.t.Helper()
	until := since.Add(20 * time.Second)
	for begin := time.Now().UnixNano(); l.last.Load() < begin; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			l.t.Fatalf("no change is acknowledged 20s later; the last error: %v", l.example.Load())
		}
	}
	took := time.Since(since)
	l.t.Logf("recovered in %v", took.Round(time.Millisecond))
	if took > recovery+slack {
		l.t.Errorf("recovered in %v, promised are %v", took, recovery)
	}
}

// exact stops, and checks each counter: nothing was done twice, and what was acknowledged is there, unless servers that replicate after
// they answer may have lost it.
func (l *load) mustCountExactly(mayLose bool) {
	l.t.Helper()
	l.stop()
	var acknowledged, unknown, lost int64
	for _, c := range l.visitors {
		is, a, u := l.final(c), c.acknowledged.Load(), c.unknown.Load()
		acknowledged, unknown, lost = acknowledged+a, unknown+u, lost+max(0, a-is)
		if is > a+u {
			l.t.Errorf("counter is %d: more than %d acknowledged and %d unknown: something was done twice", is, a, u)
		}
		if is < a && !mayLose {
			l.t.Errorf("counter is %d: %d were acknowledged", is, a)
		}
	}
	l.t.Logf("acknowledged %d, unknown %d, refused %d, lost %d; slowest %v; an error: %v", acknowledged, unknown, l.refused.Load(), lost,
		time.Duration(l.slowest.Load()).Round(time.Millisecond), l.example.Load())
	if slowest := time.Duration(l.slowest.Load()); slowest > time.Second+slack { // the default of Options.Timeout
		l.t.Errorf("an operation took %v", slowest)
	}
}

func (l *load) final(c *visitor) int64 {
	l.t.Helper()
	var r *driver.Record
	eventually(l.t, recovery, func() (err error) {
		r, _, err = l.store.LoadFresh(l.t.Context(), c.id)
		return err
	})
	return counterOf(l.t, r)
}
