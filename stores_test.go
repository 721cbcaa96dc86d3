package session_test

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

var errDown = driverError("connection refused by redis-7.internal")

type driverError string

func (e driverError) Error() string { return string(e) }

// faulty is a memstore that counts its calls and does what a test wants instead of some.
type faultyStore struct {
	*memstore.Store
	loads, creates, applies, touches, ends, signIns, endUsers atomic.Int64

	mu        sync.Mutex
	fault     func(call string) error // an error in place of the call; nil does the call
	after     func(call string) error // an error once the call has been done
	principal *driver.Principal       // of the sessions that are created
	seen      map[driver.ID]bool      // created
	noRecord  bool                    // SignIn returns no record, as a store may
}

func newFaultyStore() *faultyStore {
	return &faultyStore{Store: memstore.New(), seen: map[driver.ID]bool{}}
}

func (f *faultyStore) set(fault func(call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// down makes all calls fail; up ends it.
func (f *faultyStore) down() { f.set(func(string) error { return errDown }) }

func (f *faultyStore) up() { f.set(nil) }

// fail makes one kind of call fail.
func (f *faultyStore) fail(which string, err error) {
	f.set(func(call string) error {
		if call == which {
			return err
		}
		return nil
	})
}

func (f *faultyStore) before(call string, count *atomic.Int64) error {
	count.Add(1)
	f.mu.Lock()
	fault := f.fault
	f.mu.Unlock()
	if fault != nil {
		return fault(call)
	}
	return nil
}

func (f *faultyStore) done(call string, err error) error {
	f.mu.Lock()
	after := f.after
	f.mu.Unlock()
	if err == nil && after != nil {
		return after(call)
	}
	return err
}

func (f *faultyStore) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if err := f.before("load", &f.loads); err != nil {
		return nil, time.Time{}, err
	}
	return f.Store.Load(ctx, id)
}

func (f *faultyStore) Create(ctx context.Context, id driver.ID, o *driver.Origin, c *driver.Change) (*driver.Result, error) {
	if err := f.before("create", &f.creates); err != nil {
		return nil, err
	}
	f.mu.Lock()
	o.Principal = f.principal
	f.seen[id] = true
	f.mu.Unlock()
	res, err := f.Store.Create(ctx, id, o, c)
	return res, f.done("create", err)
}

func (f *faultyStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if err := f.before("apply", &f.applies); err != nil {
		return nil, err
	}
	res, err := f.Store.Apply(ctx, id, c)
	return res, f.done("apply", err)
}

func (f *faultyStore) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	if err := f.before("touch", &f.touches); err != nil {
		return err
	}
	return f.Store.Touch(ctx, id, verifier)
}

func (f *faultyStore) End(ctx context.Context, id driver.ID) error {
	if err := f.before("end", &f.ends); err != nil {
		return err
	}
	return f.Store.End(ctx, id)
}

func (f *faultyStore) EndOwned(ctx context.Context, id driver.ID, owner driver.Hash) (bool, error) {
	if err := f.before("end", &f.ends); err != nil {
		return false, err
	}
	return f.Store.EndOwned(ctx, id, owner)
}

func (f *faultyStore) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	if err := f.before("signin", &f.signIns); err != nil {
		return nil, err
	}
	res, err := f.Store.SignIn(ctx, id, in)
	if err == nil && f.noRecord {
		res = &driver.Result{Now: res.Now}
	}
	return res, f.done("signin", err)
}

func (f *faultyStore) EndUser(ctx context.Context, owner driver.Hash, which driver.Selection) ([]driver.ID, error) {
	if err := f.before("enduser", &f.endUsers); err != nil {
		return nil, err
	}
	return f.Store.EndUser(ctx, owner, which)
}

// endAll ends all sessions that were created, behind everybody's back.
func (f *faultyStore) mustEndAll(t *testing.T) {
	f.mu.Lock()
	ids := f.seen
	f.mu.Unlock()
	for id := range ids {
		if err := f.Store.End(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// recordsNothing is a store that has no record at hand after any change, and no ability that it can do without.
type recordlessStore struct {
	driver.UserStore
	afterApply func() // runs once, between the next Apply and its answer
}

func (r *recordlessStore) Create(ctx context.Context, id driver.ID, o *driver.Origin, c *driver.Change) (*driver.Result, error) {
	return dropRecord(r.UserStore.Create(ctx, id, o, c))
}

func (r *recordlessStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	res, err := dropRecord(r.UserStore.Apply(ctx, id, c))
	if f := r.afterApply; f != nil {
		r.afterApply = nil
		f()
	}
	return res, err
}

func (r *recordlessStore) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	return dropRecord(r.UserStore.SignIn(ctx, id, in))
}

func dropRecord(res *driver.Result, err error) (*driver.Result, error) {
	if res != nil {
		res.Record = nil
	}
	return res, err
}

// copying is a store that keeps copies of what it has read, and gives them out when it is told to, however old.
type cachingStore struct {
	*faultyStore
	mu   sync.Mutex
	kept map[driver.ID]*driver.Record
	old  bool // Load answers with copies
}

func newCachingStore(f *faultyStore) *cachingStore {
	return &cachingStore{faultyStore: f, kept: map[driver.ID]*driver.Record{}}
}

// site is another node, which has the copies.
func (c *cachingStore) newSite(t *testing.T, cfg session.Config) *site {
	t.Helper()
	s := newSite(t, cfg)
	var err error
	if s.m, err = session.New(c, cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

func (c *cachingStore) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	c.mu.Lock()
	r := c.kept[id]
	old := c.old
	c.mu.Unlock()
	if r != nil && old {
		return r, time.Now(), nil
	}
	return c.LoadFresh(ctx, id)
}

func (c *cachingStore) LoadFresh(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	r, now, err := c.faultyStore.Load(ctx, id)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.kept[id] = r
	}
	return r, now, err
}

func (c *cachingStore) LoadStale(id driver.ID) (*driver.Record, time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept[id], time.Now(), c.kept[id] != nil
}

// hanging is a store whose server does not answer. Load works.
type hangingStore struct{ *faultyStore }

func (hangingStore) Create(ctx context.Context, _ driver.ID, _ *driver.Origin, _ *driver.Change) (*driver.Result, error) {
	<-ctx.Done()
	return nil, driver.ErrUnknown
}

func (h hangingStore) Apply(ctx context.Context, _ driver.ID, _ *driver.Change) (*driver.Result, error) {
	return h.Create(ctx, driver.ID{}, nil, nil)
}

func (h hangingStore) Touch(ctx context.Context, _ driver.ID, _ driver.Hash) error {
	<-ctx.Done()
	return ctx.Err()
}

func (h hangingStore) EndOwned(ctx context.Context, _ driver.ID, _ driver.Hash) (bool, error) {
	return false, h.Touch(ctx, driver.ID{}, driver.Hash{})
}

// peeking is a store that shows what is published.
type recordingStore struct {
	*memstore.Store
	published bytes.Buffer
}

func (p *recordingStore) Publish(event []byte) {
	p.published.Write(event)
	p.Store.Publish(event)
}
