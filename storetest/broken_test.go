package storetest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/storetest"
)

// Stores with one defect each must fail the case that is there for it. The suite runs on them in a process of its own.
func TestBrokenStoresFail(t *testing.T) {
	for _, d := range defects {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range d.caughtBy {
				cmd := exec.Command(os.Args[0], "-test.run=^TestOneBrokenStore$/^"+strings.ReplaceAll(c, "/", "$/^")+"$")
				cmd.Env = append(os.Environ(), "STORETEST_DEFECT="+d.name)
				out, err := cmd.CombinedOutput()
				if err == nil || !strings.Contains(string(out), "--- FAIL: TestOneBrokenStore/"+c) || !strings.Contains(string(out), ": "+c+": ") {
					t.Errorf("case %s does not fail and explain itself: %v\n%s", c, err, out)
				}
			}
		})
	}
}

// A case that no defect fails tests nothing that is known to go wrong.
func TestEachCaseCatchesADefect(t *testing.T) {
	caught := map[string]bool{}
	for _, d := range defects {
		for _, c := range d.caughtBy {
			caught[c] = true
		}
	}
	for _, name := range storetest.CaseNames() {
		if !caught[name] {
			t.Errorf("no defect is for %s", name)
		}
	}
}

// TestOneBrokenStore is for TestBrokenStoresFail to start; by itself it does nothing.
func TestOneBrokenStore(t *testing.T) {
	runBrokenUsers(t, os.Getenv("STORETEST_DEFECT"))
	for _, d := range defects {
		if d.name != os.Getenv("STORETEST_DEFECT") || d.breaks == nil {
			continue
		}
		h := ownHarness(time.Now)
		open := h.Open
		h.Open = func(t testing.TB) driver.Store {
			b := &broken{ownStore: open(t).(ownStore)}
			d.breaks(b)
			return b
		}
		h.Reopen = func(_ testing.TB, s driver.Store) driver.Store {
			b := s.(*broken)
			if b.onReopen != nil {
				b.onReopen()
			}
			return b
		}
		h.Second = func(_ testing.TB, s driver.Store) driver.Store {
			second := &broken{ownStore: s.(*broken).ownStore}
			d.breaks(second)
			return second
		}
		h.Len = func(_ testing.TB, s driver.Store) int {
			b := s.(*broken)
			if !b.keepsExpired {
				b.db.vacuum()
			}
			return b.db.len() + b.leaked
		}
		storetest.Run(t, h)
	}
}

// broken is a store of which one method or another is replaced.
type broken struct {
	ownStore
	load         func(context.Context, driver.ID) (*driver.Record, time.Time, error)
	create       func(context.Context, driver.ID, *driver.RecordSpec, *driver.Change) (*driver.Result, error)
	apply        func(context.Context, driver.ID, *driver.Change) (*driver.Result, error)
	touch        func(context.Context, driver.ID, driver.Hash) error
	end          func(context.Context, driver.ID) error
	onReopen     func()
	keepsExpired bool
	leaked       int
}

func (b *broken) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if b.load != nil {
		return b.load(ctx, id)
	}
	return b.ownStore.Load(ctx, id)
}

func (b *broken) Create(ctx context.Context, id driver.ID, o *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	if b.create != nil {
		return b.create(ctx, id, o, c)
	}
	return b.ownStore.Create(ctx, id, o, c)
}

func (b *broken) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if b.apply != nil {
		return b.apply(ctx, id, c)
	}
	return b.ownStore.Apply(ctx, id, c)
}

func (b *broken) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	if b.touch != nil {
		return b.touch(ctx, id, verifier)
	}
	return b.ownStore.Touch(ctx, id, verifier)
}

func (b *broken) End(ctx context.Context, id driver.ID) error {
	if b.end != nil {
		return b.end(ctx, id)
	}
	return b.ownStore.End(ctx, id)
}

// put stores a record, whatever is there.
func (b *broken) put(id driver.ID, r *driver.Record) {
	b.db.update(context.Background(), id, func(*driver.Record, time.Time) (*driver.Record, error) { return r, nil })
}

// edit changes a record behind the contract's back.
func (b *broken) edit(id driver.ID, f func(r *driver.Record)) {
	b.db.update(context.Background(), id, func(old *driver.Record, _ time.Time) (*driver.Record, error) {
		if old == nil {
			return nil, nil
		}
		r := *old
		f(&r)
		return &r, nil
	})
}

// afterApply lets f spoil the outcome of each change that succeeded.
func (b *broken) afterApply(f func(id driver.ID, c *driver.Change, res *driver.Result)) {
	b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
		res, err := b.ownStore.Apply(ctx, id, c)
		if err == nil {
			f(id, c, res)
		}
		return res, err
	}
}

// beforeApply lets f spoil each change.
func (b *broken) beforeApply(f func(id driver.ID, c *driver.Change)) {
	b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
		spoilt := *c
		spoilt.Ops = append([]driver.Op(nil), c.Ops...)
		f(id, &spoilt)
		return b.ownStore.Apply(ctx, id, &spoilt)
	}
}

// opError returns the error of an operation, nil if err is another.
func opError(err error) *driver.OpError {
	var op *driver.OpError
	errors.As(err, &op)
	return op
}

// copies is a cache, safe for concurrent use and for nothing else.
type copies struct {
	mu sync.Mutex
	of map[driver.ID]*driver.Record
}

func (c *copies) get(id driver.ID) *driver.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[id]
}

func (c *copies) put(id driver.ID, r *driver.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[id] = r
}
