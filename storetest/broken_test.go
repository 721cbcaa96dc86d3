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

// TestBrokenStoresFail: a store with a known defect fails the cases that are meant to catch it, and
// each prints its explanation. The suite runs on such a store in a process of its own.
func TestBrokenStoresFail(t *testing.T) {
	for _, d := range defects {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range d.caughtBy {
				cmd := exec.Command(os.Args[0], "-test.run=^TestOneBrokenStore$/^"+strings.ReplaceAll(c, "/", "$/^")+"$")
				cmd.Env = append(os.Environ(), "STORETEST_DEFECT="+d.name)
				out, err := cmd.CombinedOutput()
				failed := strings.Contains(string(out), "--- FAIL: TestOneBrokenStore/"+c)
				if explained := strings.Contains(string(out), ": "+c+": "); err == nil || !failed || !explained {
					t.Errorf("case %s did not fail with its explanation: %v\n%s", c, err, out)
				}
			}
		})
	}
}

// TestEachCaseCatchesADefect: for each case there is a store that fails it.
func TestEachCaseCatchesADefect(t *testing.T) {
	caught := map[string]bool{}
	for _, d := range defects {
		for _, c := range d.caughtBy {
			caught[c] = true
		}
	}
	for _, name := range storetest.CaseNames() {
		if !caught[name] {
			t.Errorf("no defect is listed for the case %s", name)
		}
	}
}

// TestOneBrokenStore is the process that TestBrokenStoresFail starts. Without the environment
// variable it does nothing.
func TestOneBrokenStore(t *testing.T) {
	runBrokenUsers(t, os.Getenv("STORETEST_DEFECT"))
	for _, d := range defects {
		if d.name != os.Getenv("STORETEST_DEFECT") || d.breaks == nil {
			continue
		}
		h := exampleHarness(time.Now)
		open := h.Open
		h.Open = func(t testing.TB) driver.Store {
			b := &broken{exampleStore: open(t).(*exampleStore)}
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
			second := &broken{exampleStore: s.(*broken).exampleStore}
			d.breaks(second)
			return second
		}
		h.Len = func(_ testing.TB, s driver.Store) int {
			b := s.(*broken)
			if !b.keepsExpired {
				b.vacuum()
			}
			return len(b.records) + b.leaked
		}
		if os.Getenv("STORETEST_SLOW") != "" {
			open := h.Open
			h.Open = func(t testing.TB) driver.Store { return slowStore{open(t)} }
			h.Unit, h.Slack = 4*time.Minute, 58*time.Second
		}
		storetest.Run(t, h)
	}
}

// TestSlowMachineHidesNoDefect: a case that finds a defect fails, also if no attempt at it is fast
// enough.
func TestSlowMachineHidesNoDefect(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestOneBrokenStore$/^time$/^idle$")
	cmd.Env = append(os.Environ(), "STORETEST_SLOW=1", "STORETEST_DEFECT=a read extends the session")
	out, err := cmd.CombinedOutput()
	if n := strings.Count(string(out), "runs again with longer limits"); err == nil || n != 3 {
		t.Errorf("%v after %d further attempts, want 3 and a failure\n%s", err, n, out)
	}
}

// slowStore is a store that takes five minutes for each Load.
type slowStore struct{ driver.Store }

func (s slowStore) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	time.Sleep(5 * time.Minute)
	return s.Store.Load(ctx, id)
}

// broken is a store with some methods replaced.
type broken struct {
	*exampleStore
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
	return b.exampleStore.Load(ctx, id)
}

func (b *broken) Create(
	ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change,
) (*driver.Result, error) {
	if b.create != nil {
		return b.create(ctx, id, spec, c)
	}
	return b.exampleStore.Create(ctx, id, spec, c)
}

func (b *broken) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if b.apply != nil {
		return b.apply(ctx, id, c)
	}
	return b.exampleStore.Apply(ctx, id, c)
}

func (b *broken) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	if b.touch != nil {
		return b.touch(ctx, id, verifier)
	}
	return b.exampleStore.Touch(ctx, id, verifier)
}

func (b *broken) End(ctx context.Context, id driver.ID) error {
	if b.end != nil {
		return b.end(ctx, id)
	}
	return b.exampleStore.End(ctx, id)
}

// put stores a record, whether or not there is one. It removes the record if r is nil.
func (b *broken) put(id driver.ID, r *driver.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.records[id] = r; r == nil {
		delete(b.records, id)
	}
}

// edit modifies a record, if there is one, against the contract.
func (b *broken) edit(id driver.ID, f func(r *driver.Record)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.records[id]; old != nil {
		r := *old
		f(&r)
		b.records[id] = &r
	}
}

// afterApply calls f to falsify the outcome of each change that succeeded.
func (b *broken) afterApply(f func(id driver.ID, c *driver.Change, res *driver.Result)) {
	b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
		res, err := b.exampleStore.Apply(ctx, id, c)
		if err == nil {
			f(id, c, res)
		}
		return res, err
	}
}

// beforeApply calls f to falsify each change.
func (b *broken) beforeApply(f func(id driver.ID, c *driver.Change)) {
	b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
		falsified := *c
		falsified.Ops = append([]driver.Op(nil), c.Ops...)
		f(id, &falsified)
		return b.exampleStore.Apply(ctx, id, &falsified)
	}
}

// opError returns the *driver.OpError in err, or nil.
func opError(err error) *driver.OpError {
	var op *driver.OpError
	errors.As(err, &op)
	return op
}

// copies is a cache that is never updated. It is safe for concurrent use.
type copies struct {
	mu      sync.Mutex
	records map[driver.ID]*driver.Record
}

func newCopies() *copies { return &copies{records: map[driver.ID]*driver.Record{}} }

func (c *copies) get(id driver.ID) *driver.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.records[id]
}

func (c *copies) put(id driver.ID, r *driver.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records[id] = r
}
