package matrix_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
	"github.com/coatcheck-go/session/sqlstore"
)

// stores are what each framework is tested with.
var stores = []struct {
	name string
	open func(t *testing.T) driver.UserStore
}{
	{"memstore", func(t *testing.T) driver.UserStore {
		s := memstore.New()
		t.Cleanup(func() { s.Close() })
		return s
	}},
	{"filestore", func(t *testing.T) driver.UserStore {
		s, err := filestore.Open(t.TempDir(), filestore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}},
	{"sqlstore", func(t *testing.T) driver.UserStore {
		s, err := sqlstore.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "sessions.db"), sqlstore.Options{Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}},
	{"redisstore", func(t *testing.T) driver.UserStore {
		s, err := redisstore.Open(t.Context(), "redis://"+redistest.Start(t, redistest.Options{}).Addr(), redisstore.Options{Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}},
}

// health is what a faultyStore does with a call.
type health int32

const (
	up      health = iota
	down           // the call fails at once, and stores nothing
	hanging        // the call fails after storeTimeout; whether a change was stored is unknown
)

// storeTimeout is how long a hanging store keeps a call.
const storeTimeout = 20 * time.Millisecond

// faultyStore is a store that can be down or hang. It has none of the optional abilities of the
// store beneath it.
type faultyStore struct {
	driver.UserStore
	health atomic.Int32
}

func (f *faultyStore) set(h health) { f.health.Store(int32(h)) }

func (f *faultyStore) fails(ctx context.Context, hung error) error {
	switch health(f.health.Load()) {
	case down:
		return errors.New("secret: connection refused")
	case hanging:
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		<-ctx.Done()
		return hung
	case up:
	}
	return nil
}

func (f *faultyStore) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if err := f.fails(ctx, errors.New("secret: timeout")); err != nil {
		return nil, time.Time{}, err
	}
	return f.UserStore.Load(ctx, id)
}

func (f *faultyStore) Create(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	if err := f.fails(ctx, driver.ErrUnknown); err != nil {
		return nil, err
	}
	return f.UserStore.Create(ctx, id, spec, c)
}

func (f *faultyStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if err := f.fails(ctx, driver.ErrUnknown); err != nil {
		return nil, err
	}
	return f.UserStore.Apply(ctx, id, c)
}

func (f *faultyStore) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	if err := f.fails(ctx, driver.ErrUnknown); err != nil {
		return nil, err
	}
	return f.UserStore.SignIn(ctx, id, in)
}
