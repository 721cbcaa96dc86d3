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

// errDown is the error of a store that cannot be reached.
var errDown = driverError("connection refused by redis-7.internal")

// driverError is an error of a driver that is no sentinel of this module.
type driverError string

func (e driverError) Error() string { return string(e) }

// faultyStore is a memstore that counts calls and can make them fail.
type faultyStore struct {
	*memstore.Store
	loads, creates, applies, touches, ends, signIns, endUsers, joins atomic.Int64

	pages       atomic.Int64 // calls of Sessions
	largestPage int          // of those

	mu    sync.Mutex
	fault func(call string) error // called before each call; its error replaces the call
	// Called after each successful call; its error replaces the result.
	after     func(call string) error
	principal *driver.Principal  // put into each session that Create makes
	created   map[driver.ID]bool // the sessions that Create has made
	noRecord  bool               // SignIn and Apply return no record, which a store may do
}

// newFaultyStore returns an empty store without faults.
func newFaultyStore() *faultyStore {
	return &faultyStore{Store: memstore.New(), created: map[driver.ID]bool{}}
}

// set replaces the fault that is called before each call.
func (f *faultyStore) set(fault func(call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// down makes every call fail.
func (f *faultyStore) down() { f.set(func(string) error { return errDown }) }

// up makes every call succeed again.
func (f *faultyStore) up() { f.set(nil) }

// fail makes one kind of call fail and all others succeed.
func (f *faultyStore) fail(which string, err error) {
	f.set(func(call string) error {
		if call == which {
			return err
		}
		return nil
	})
}

// before counts a call and returns the fault's error.
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

// done returns the error of a finished call, or else that of after.
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

func (f *faultyStore) Create(ctx context.Context, id driver.ID, o *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	if err := f.before("create", &f.creates); err != nil {
		return nil, err
	}
	f.mu.Lock()
	o.Principal = f.principal
	f.created[id] = true
	f.mu.Unlock()
	res, err := f.Store.Create(ctx, id, o, c)
	return res, f.done("create", err)
}

func (f *faultyStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if err := f.before("apply", &f.applies); err != nil {
		return nil, err
	}
	res, err := f.Store.Apply(ctx, id, c)
	if err == nil && f.noRecord {
		res = &driver.Result{Values: res.Values, Now: res.Now, Renewed: res.Renewed}
	}
	return res, f.done("apply", err)
}

func (f *faultyStore) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	if err := f.before("touch", &f.touches); err != nil {
		return err
	}
	return f.Store.Touch(ctx, id, verifier)
}

func (f *faultyStore) Join(
	ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
) (taken, stored *driver.Result, err error) {
	if err := f.before("join", &f.joins); err != nil {
		return nil, nil, err
	}
	taken, stored, err = f.Store.Join(ctx, from, take, into, put)
	if err == nil && f.noRecord {
		taken, stored = &driver.Result{Now: taken.Now}, &driver.Result{Now: stored.Now}
	}
	return taken, stored, f.done("join", err)
}

func (f *faultyStore) End(ctx context.Context, id driver.ID) error {
	if err := f.before("end", &f.ends); err != nil {
		return err
	}
	return f.Store.End(ctx, id)
}

func (f *faultyStore) EndAndReport(
	ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt,
) (bool, error) {
	if err := f.before("end", &f.ends); err != nil {
		return false, err
	}
	return f.Store.EndAndReport(ctx, id, owner, attempt)
}

func (f *faultyStore) Sessions(
	ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
) ([]driver.UserSession, error) {
	if err := f.before("sessions", &f.pages); err != nil {
		return nil, err
	}
	page, err := f.Store.Sessions(ctx, owner, after, limit)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.largestPage = max(f.largestPage, len(page))
	return page, err
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

// mustEndAll ends every session that Create has made, without the Manager.
func (f *faultyStore) mustEndAll(t *testing.T) {
	f.mu.Lock()
	ids := f.created
	f.mu.Unlock()
	for id := range ids {
		if err := f.Store.End(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// recordlessStore returns no record from any change, as a store on Redis without a copy of it does.
// It has none of the optional interfaces.
type recordlessStore struct {
	driver.UserStore
	afterApply func() // called once, when Apply has changed the store and before it returns
}

func (r *recordlessStore) Create(ctx context.Context, id driver.ID, o *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
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

// dropRecord removes the record from a result.
func dropRecord(res *driver.Result, err error) (*driver.Result, error) {
	if res != nil {
		res.Record = nil
	}
	return res, err
}

// cachingStore keeps a copy of each record that it has read. It can be told to answer with copies
// of any age.
type cachingStore struct {
	*faultyStore
	mu     sync.Mutex
	copies map[driver.ID]*driver.Record
	stale  bool // Load answers with copies
}

// newCachingStore returns a store without copies on top of f.
func newCachingStore(f *faultyStore) *cachingStore {
	return &cachingStore{faultyStore: f, copies: map[driver.ID]*driver.Record{}}
}

// newSite returns another node that uses the same copies.
func (c *cachingStore) newSite(t *testing.T, cfg session.Config) *site {
	t.Helper()
	s := newSite(t, cfg)
	var err error
	if s.m, err = session.New(c, patient(cfg)); err != nil {
		t.Fatal(err)
	}
	return s
}

// setStale decides whether Load answers with copies.
func (c *cachingStore) setStale(stale bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = stale
}

func (c *cachingStore) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	c.mu.Lock()
	r := c.copies[id]
	stale := c.stale
	c.mu.Unlock()
	if r != nil && stale {
		return r, time.Now(), nil
	}
	return c.LoadFresh(ctx, id)
}

func (c *cachingStore) LoadFresh(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	r, now, err := c.faultyStore.Load(ctx, id)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.copies[id] = r
	}
	return r, now, err
}

func (c *cachingStore) LoadStale(id driver.ID) (*driver.Record, time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copies[id], time.Now(), c.copies[id] != nil
}

// hangingStore is a store whose server answers Load and nothing else.
type hangingStore struct{ *faultyStore }

func (hangingStore) Create(ctx context.Context, _ driver.ID, _ *driver.RecordSpec, _ *driver.Change) (*driver.Result, error) {
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

func (h hangingStore) EndAndReport(ctx context.Context, _ driver.ID, _ driver.Hash, _ driver.Attempt) (bool, error) {
	return false, h.Touch(ctx, driver.ID{}, driver.Hash{})
}

// recordingStore keeps what is published to its feed.
type recordingStore struct {
	*memstore.Store
	published bytes.Buffer
}

func (p *recordingStore) Publish(event []byte) {
	p.published.Write(event)
	p.Store.Publish(event)
}
