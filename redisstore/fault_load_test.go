package redisstore_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
)

// load increments counters while a test causes a fault, and records every outcome.
type load struct {
	t        *testing.T
	store    *redisstore.Store
	visitors []*visitor
	stop     func()

	slowest   atomic.Int64 // nanoseconds, without stalls of the machine
	changes   atomic.Int64 // acknowledged
	refused   atomic.Int64
	lastError atomic.Value
}

// visitor is one session and the outcomes of the changes to its counter.
type visitor struct {
	id           driver.ID
	origin       *driver.RecordSpec
	acknowledged atomic.Int64
	unknown      atomic.Int64
}

// startLoad creates one session for each worker. Each worker increments all counters in turn.
func startLoad(t *testing.T, s *redisstore.Store, workers int) *load {
	t.Helper()
	l := &load{t: t, store: s}
	for range workers {
		v := &visitor{}
		v.id, v.origin = newSession()
		mustCreate(t, s, v.id, v.origin)
		l.visitors = append(l.visitors, v)
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
					l.increment(l.visitors[i%workers])
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() { close(done); all.Wait() })
	t.Cleanup(l.stop)
	return l
}

func (l *load) increment(v *visitor) {
	watch := startStopwatch()
	_, err := l.store.Apply(l.t.Context(), v.id, increment(v.origin))
	for took := int64(watch.elapsed()); ; {
		if old := l.slowest.Load(); took <= old || l.slowest.CompareAndSwap(old, took) {
			break
		}
	}
	switch {
	case err == nil:
		v.acknowledged.Add(1)
		l.changes.Add(1)
		return
	case errors.Is(err, driver.ErrUnknown):
		v.unknown.Add(1)
	case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved):
		l.t.Errorf("a visitor lost the session: %v", err)
		time.Sleep(time.Second)
	default:
		l.refused.Add(1)
	}
	l.lastError.Store(err.Error())
	time.Sleep(2 * time.Millisecond)
}

// mustRecover waits until the store acknowledges a change again. The test fails if that takes
// longer than promised. Call it when the fault is over.
func (l *load) mustRecover() {
	l.t.Helper()
	before, watch := l.changes.Load(), startStopwatch()
	eventually(l.t, recovery, func() error {
		if l.changes.Load() == before {
			return fmt.Errorf("no change was acknowledged; last error: %v", l.lastError.Load())
		}
		return nil
	})
	l.t.Logf("recovered in %v", watch.elapsed().Round(time.Millisecond))
}

// mustRecoverEverySession waits until the store acknowledges a change of every session again. The
// test fails if that takes longer than promised. Call it when the fault is over.
func (l *load) mustRecoverEverySession() {
	l.t.Helper()
	watch := startStopwatch()
	before := make([]int64, len(l.visitors))
	for i, v := range l.visitors {
		before[i] = v.acknowledged.Load()
	}
	eventually(l.t, recovery, func() error {
		for i, v := range l.visitors {
			if v.acknowledged.Load() == before[i] {
				return fmt.Errorf("no change of session %s was acknowledged; last error: %v", v.id, l.lastError.Load())
			}
		}
		return nil
	})
	l.t.Logf("recovered in %v", watch.elapsed().Round(time.Millisecond))
}

// mustCountExactly stops the load and checks every counter. No change may be applied twice. No
// acknowledged change may be missing, unless mayLose is set: servers that replicate after they
// reply may lose one.
func (l *load) mustCountExactly(mayLose bool) {
	l.t.Helper()
	l.stop()
	var acknowledged, unknown, lost int64
	for _, v := range l.visitors {
		n, a, u := l.storedCounter(v), v.acknowledged.Load(), v.unknown.Load()
		acknowledged, unknown, lost = acknowledged+a, unknown+u, lost+max(0, a-n)
		if n > a+u {
			l.t.Errorf("a counter is %d, with %d changes acknowledged and %d unknown: a change was applied twice", n, a, u)
		}
		if n < a && !mayLose {
			l.t.Errorf("a counter is %d, with %d changes acknowledged: a change was lost", n, a)
		}
	}
	slowest := time.Duration(l.slowest.Load())
	l.t.Logf("acknowledged %d, unknown %d, refused %d, lost %d; slowest %v; last error: %v",
		acknowledged, unknown, l.refused.Load(), lost, slowest.Round(time.Millisecond), l.lastError.Load())
	if slowest > time.Second+slack { // one second more than the default of Options.Timeout
		l.t.Errorf("the slowest operation took %v", slowest)
	}
}

// storedCounter returns the counter of a session on the server.
func (l *load) storedCounter(v *visitor) int64 {
	l.t.Helper()
	var r *driver.Record
	eventually(l.t, recovery, func() (err error) {
		r, _, err = l.store.LoadFresh(l.t.Context(), v.id)
		return err
	})
	return counterOf(l.t, r)
}
