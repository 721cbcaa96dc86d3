package redisstore_test

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
)

// Bounds that the product promises, and what a loaded machine may add.
const (
	recovery = 5 * time.Second
	slack    = 2 * time.Second
)

// few runs a test at the same time as others, but not many: each has servers of its own. A test that has subtests which run at the same time
// must leave it to them: it would hold its place, and they wait for one.
func few(t *testing.T) {
	t.Helper()
	t.Parallel()
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
}

var slots = make(chan struct{}, 3)

// load counts in sessions while something happens to the servers, and keeps account of what it was told.
type load struct {
	t        *testing.T
	store    *redisstore.Store
	visitors []*counted
	stop     func()

	slowest atomic.Int64 // nanoseconds
	last    atomic.Int64 // when a change was last acknowledged
	refused atomic.Int64
	example atomic.Value // an error
}

// counted is one session, and what is known of its counter.
type counted struct {
	id           driver.ID
	origin       *driver.RecordSpec
	acknowledged atomic.Int64
	unknown      atomic.Int64
}

// startLoad creates sessions, as many as workers, and has each worker count in all of them in turn.
func startLoad(t *testing.T, s *redisstore.Store, workers int) *load {
	t.Helper()
	l := &load{t: t, store: s}
	for range workers {
		c := &counted{}
		c.id, c.origin = fresh()
		create(t, s, c.id, c.origin)
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

func (l *load) count(c *counted) {
	begin := time.Now()
	_, err := l.store.Apply(l.t.Context(), c.id, add1(c.origin))
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
func (l *load) recovers(since time.Time) {
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
func (l *load) exact(mayLose bool) {
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

func (l *load) final(c *counted) int64 {
	l.t.Helper()
	var r *driver.Record
	eventually(l.t, recovery, func() (err error) {
		r, _, err = l.store.LoadFresh(l.t.Context(), c.id)
		return err
	})
	return count(l.t, r)
}

func add1(o *driver.RecordSpec) *driver.Change {
	return &driver.Change{Verifier: o.Verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
}

func create(t testing.TB, s driver.Store, id driver.ID, o *driver.RecordSpec) {
	t.Helper()
	if _, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier}); err != nil {
		t.Fatal(err)
	}
}

func count(t testing.TB, r *driver.Record) int64 {
	t.Helper()
	for _, f := range r.Fields {
		if f.Key == "n" {
			n, err := strconv.ParseInt(string(f.Value), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// eventually calls check until it returns nil.
func eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Since(begin) > limit+slack {
			t.Fatalf("after %v: %v", limit, err)
		}
	}
}

// within checks that an operation ends in time.
func within(t testing.TB, limit time.Duration, do func() error) error {
	t.Helper()
	begin := time.Now()
	err := do()
	if took := time.Since(begin); took > limit+slack {
		t.Errorf("it took %v, the limit is %v (%v)", took, limit, err)
	}
	return err
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
