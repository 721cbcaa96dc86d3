package storetest_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/storetest"
)

// TestStopFailsNoCase: no case fails because the machine stops for as long as a Unit, whichever
// call of the case that delays. It delays a request or a reply.
func TestStopFailsNoCase(t *testing.T) {
	for call := range int64(30) {
		reply := call%2 == 0
		t.Run(fmt.Sprintf("call %d, reply %t", call+1, reply), func(t *testing.T) {
			storetest.RunTimed(t, storetest.Harness{
				Open: func(testing.TB) driver.Store {
					return &stoppingStore{Store: memstore.New(), state: &stops{}, call: call + 1, reply: reply}
				},
				Reopen: func(_ testing.TB, s driver.Store) driver.Store { return s },
				Second: func(_ testing.TB, s driver.Store) driver.Store { return s },
				Unit:   4 * time.Minute,
				Slack:  58 * time.Second,
			})
		})
	}
}

// stops counts the calls of a store.
type stops struct {
	calls    atomic.Int64
	listened atomic.Bool
}

// stoppingStore is a store whose machine stops once.
type stoppingStore struct {
	*memstore.Store
	state *stops
	call  int64 // the call that it delays
	reply bool  // it delays the reply, not the request
}

// delay is called before each call, and returns what to call after it.
func (s *stoppingStore) delay() (after func()) {
	const stop = 4 * time.Minute
	if s.state.calls.Add(1) != s.call {
		return func() {}
	}
	if s.reply {
		return func() { time.Sleep(stop) }
	}
	time.Sleep(stop)
	return func() {}
}

// OnExpiry listens once, also if the store is reopened, because it is the same store.
func (s *stoppingStore) OnExpiry(report func(driver.ExpiredSession)) {
	if !s.state.listened.Swap(true) {
		s.Store.OnExpiry(report)
	}
}

func (s *stoppingStore) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	defer s.delay()()
	return s.Store.Load(ctx, id)
}

func (s *stoppingStore) Create(
	ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change,
) (*driver.Result, error) {
	defer s.delay()()
	return s.Store.Create(ctx, id, spec, c)
}

func (s *stoppingStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	defer s.delay()()
	return s.Store.Apply(ctx, id, c)
}

func (s *stoppingStore) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	defer s.delay()()
	return s.Store.Touch(ctx, id, verifier)
}

func (s *stoppingStore) End(ctx context.Context, id driver.ID) error {
	defer s.delay()()
	return s.Store.End(ctx, id)
}

func (s *stoppingStore) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	defer s.delay()()
	return s.Store.SignIn(ctx, id, in)
}

func (s *stoppingStore) EndUser(ctx context.Context, owner driver.Hash, sel driver.Selection) ([]driver.ID, error) {
	defer s.delay()()
	return s.Store.EndUser(ctx, owner, sel)
}

func (s *stoppingStore) EndAll(ctx context.Context) error {
	defer s.delay()()
	return s.Store.EndAll(ctx)
}

func (s *stoppingStore) Join(
	ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
) (taken, stored *driver.Result, err error) {
	defer s.delay()()
	return s.Store.Join(ctx, from, take, into, put)
}
