package redisstore_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// place holds one session after another. A new session starts when the last one has ended.
type place struct{ now atomic.Pointer[life] }

// life is one session, with what each node acknowledged.
type life struct {
	id       driver.ID
	verifier driver.Hash
	node     [2]acknowledged
}

// acknowledged is what one node acknowledged for one session.
type acknowledged struct {
	count atomic.Int64 // the greatest value of the counter
	ended atomic.Bool
	mu    sync.Mutex
	log   []mark // all values with their times, for readers on the other node
}

type mark struct {
	at    time.Time
	count int64
}

func (a *acknowledged) acknowledge(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > a.count.Load() {
		a.count.Store(n)
		a.log = append(a.log, mark{time.Now(), n})
	}
}

// before returns the count that was acknowledged at a time.
func (a *acknowledged) before(t time.Time) (n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, _ := slices.BinarySearchFunc(a.log, t, func(m mark, t time.Time) int { return m.at.Compare(t) })
	if i == 0 {
		return 0
	}
	return a.log[i-1].count
}

// TestNearCacheServesNothingOlderThanPromised runs a race of two nodes on one server. No read is
// older than a write that the same node acknowledged, or than a write that the other node
// acknowledged a lease ago. No node finds a session that it has ended. No write to an ended session
// succeeds.
func TestNearCacheServesNothingOlderThanPromised(t *testing.T) {
	const places, workers = 32, 8
	operations := 1_000_000
	if testing.Short() {
		operations = 50_000
	}
	node := redistest.Start(t, redistest.Options{})
	var stores [2]*redisstore.Store
	for i := range stores {
		stores[i] = mustOpen(t, "redis://"+node.Addr(), redisstore.Options{Timeout: 10 * time.Second, Lease: bound})
	}
	var board [places]place
	begin := func(p *place) *life {
		id, o := newSession()
		if _, err := stores[0].Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier}); err != nil {
			t.Error(err)
		}
		l := &life{id: id, verifier: o.Verifier}
		p.now.Store(l)
		return l
	}
	for i := range board {
		begin(&board[i])
	}
	var all sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(operations))
	for worker := range workers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 7))
			n := worker % 2
			for left.Add(-1) >= 0 && !t.Failed() {
				p := &board[random.IntN(places)]
				l := p.now.Load()
				switch dice := random.IntN(1000); {
				case dice < 2:
					endLife(t, stores[n], n, l)
					if p.now.Load() == l {
						begin(p)
					}
				case dice < 150:
					addToLife(t, stores[n], n, l)
				default:
					readLife(t, stores[n], n, l)
				}
			}
		})
	}
	all.Wait()
	for i, s := range stores {
		stats, _ := s.Near()
		t.Logf("node %d: %+v", i, stats)
		if stats.Hits == 0 || stats.Drops == 0 {
			t.Errorf("node %d did not use its near cache, so the test shows nothing", i)
		}
	}
}

// bound is the time after which a node must see what another node acknowledged.
const bound = 2 * time.Second

func endLife(t *testing.T, s *redisstore.Store, n int, l *life) {
	if err := s.End(t.Context(), l.id); err != nil {
		t.Errorf("End: %v", err)
		return
	}
	l.node[n].ended.Store(true)
}

func addToLife(t *testing.T, s *redisstore.Store, n int, l *life) {
	ended := l.node[0].ended.Load() || l.node[1].ended.Load()
	res, err := s.Apply(t.Context(), l.id, incrementWith(l.verifier))
	switch {
	case errors.Is(err, driver.ErrNotFound):
	case err != nil:
		t.Errorf("Apply: %v", err)
	case ended:
		t.Error("a write to a session succeeds after its end was acknowledged")
	default:
		count, _ := strconv.ParseInt(string(res.Values[0]), 10, 64)
		l.node[n].acknowledge(count)
	}
}

func readLife(t *testing.T, s *redisstore.Store, n int, l *life) {
	own, other := &l.node[n], &l.node[1-n]
	endedHere, least, elsewhere := own.ended.Load(), own.count.Load(), other.before(time.Now().Add(-bound))
	r, _, err := s.Load(t.Context(), l.id)
	if errors.Is(err, driver.ErrNotFound) {
		return
	}
	if err != nil {
		t.Errorf("Load: %v", err)
		return
	}
	if endedHere {
		t.Error("a node finds a session that it has ended")
	}
	value, _ := r.Fields.Get("n")
	count, _ := strconv.ParseInt(string(value), 10, 64)
	if count < least {
		t.Errorf("a read returns %d after the same node acknowledged %d", count, least)
	}
	if count < elsewhere {
		t.Errorf("a read returns %d, %v after another node acknowledged %d", count, bound, elsewhere)
	}
}

// TestRevocationReachesOtherNodes measures how long another node still serves its copy of a session
// after the session's end was acknowledged.
func TestRevocationReachesOtherNodes(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	o := redisstore.Options{Timeout: calm.Timeout, Lease: bound}
	a, b := mustOpen(t, "redis://"+node.Addr(), o), mustOpen(t, "redis://"+node.Addr(), o)
	var delays []time.Duration
	for range 300 {
		id, o := newSession()
		if _, err := a.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a node keeps a copy from its second read on
			if _, _, err := b.Load(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.End(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		acknowledged := time.Now()
		for {
			asked := time.Now()
			_, _, err := b.Load(t.Context(), id)
			if errors.Is(err, driver.ErrNotFound) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if asked.Sub(acknowledged) > bound {
				t.Fatalf("another node still serves the session %v after its end", bound)
			}
		}
		delays = append(delays, time.Since(acknowledged))
	}
	slices.Sort(delays)
	t.Logf("another node stopped serving an ended session after %v (median), %v (p99), %v (most)",
		delays[len(delays)/2], delays[len(delays)*99/100], delays[len(delays)-1])
	stats, _ := b.Near()
	if stats.Hits == 0 || stats.Drops < 250 {
		t.Errorf("the near cache was not used, so the test shows nothing: %+v", stats)
	}
}

// TestOwnWritesStayTracked checks that a node drops a copy that it made from its own write when
// another node changes the session. Redis tracks a key that a connection has read, until the next
// write to it. So each script reads the key last.
func TestOwnWritesStayTracked(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	a, b := mustOpen(t, "redis://"+node.Addr(), calm), mustOpen(t, "redis://"+node.Addr(), calm)
	add := func(s *redisstore.Store, id driver.ID, verifier driver.Hash) *driver.Record {
		res, err := s.Apply(t.Context(), id, incrementWith(verifier))
		must(t, err)
		return res.Record
	}
	for name, own := range map[string]func(id driver.ID, o *driver.RecordSpec){
		"create": func(driver.ID, *driver.RecordSpec) {},
		"apply": func(id driver.ID, o *driver.RecordSpec) {
			if add(a, id, o.Verifier) == nil {
				t.Error("Apply did not update the node's copy")
			}
		},
		"touch": func(id driver.ID, o *driver.RecordSpec) {
			time.Sleep(o.Idle / 10) // then a touch is due
			if err := a.Touch(t.Context(), id, o.Verifier); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			id, o := newSession()
			if name == "touch" {
				o.Idle = 10 * time.Second
			}
			if _, err := a.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier}); err != nil {
				t.Fatal(err)
			}
			own(id, o)
			before, _ := a.Near()
			r, _, err := a.Load(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if after, _ := a.Near(); after.Hits != before.Hits+1 {
				t.Error("the node has no copy of its own write")
			}
			add(b, id, o.Verifier)
			want := r.Revision + 1
			eventually(t, time.Second, func() error {
				r, _, err := a.Load(t.Context(), id)
				if err == nil && r.Revision != want {
					err = errors.New("the node still serves its copy after another node's change")
				}
				return err
			})
		})
	}
}
