package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
	"github.com/coatcheck-go/session/storetest"
)

// servers are the servers that TestStore needs. The script redistest/servers/install.sh installs
// those that the system does not have.
var servers = []string{"redis-7.0", "redis-8.0", "valkey-8.1"}

// topologies start servers and return the URL of a store on them.
var topologies = []struct {
	name  string
	start func(t testing.TB, o redistest.Options) (url string)
}{
	{"standalone", func(t testing.TB, o redistest.Options) string {
		return "redis://" + redistest.Start(t, o).Addr()
	}},
	{"sentinel", func(t testing.TB, o redistest.Options) string {
		return sentinelURL(redistest.StartSentinel(t, o))
	}},
	{"cluster", func(t testing.TB, o redistest.Options) string {
		return clusterURL(redistest.StartCluster(t, o))
	}},
}

// TestStore runs the contract of stores on every server and topology, with and without a near
// cache.
func TestStore(t *testing.T) {
	for _, name := range servers {
		server, err := redistest.Named(name)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, topology := range topologies {
			t.Run(name+"/"+topology.name, func(t *testing.T) {
				url := topology.start(t, redistest.Options{Server: server})
				for cache, size := range map[string]int{"near cache": 0, "no near cache": -1} {
					t.Run(cache, func(t *testing.T) { runContract(t, url, redisstore.Options{NearCache: size}) })
				}
			})
		}
	}
}

// storeWithOptions is a store with its options, which a second store on the same data needs.
type storeWithOptions struct {
	*redisstore.Store
	options redisstore.Options
}

// lastNamespace separates the cases that use one server at the same time.
var lastNamespace atomic.Int64

// unit is the harness's unit of time. A server's clock cannot be faked, so the contract's cases
// wait for a few units each. A busy machine needs part of a unit to open a store.
const unit = 2 * time.Second

// wait lets time pass on the server's clock.
func wait(_ testing.TB, d time.Duration) { time.Sleep(d) }

func runContract(t *testing.T, url string, o redisstore.Options) {
	o.Events = 1000
	o = patient(o)
	again := func(t testing.TB, s driver.Store) driver.Store {
		o := s.(*storeWithOptions).options
		return &storeWithOptions{mustOpen(t, url, o), o}
	}
	storetest.Run(t, storetest.Harness{
		Open: func(t testing.TB) driver.Store {
			o := o
			o.Namespace = fmt.Sprint("test", lastNamespace.Add(1))
			return &storeWithOptions{mustOpen(t, url, o), o}
		},
		Second:   again,
		Reopen:   again,
		Wait:     wait,
		Unit:     unit,
		Slack:    480 * time.Millisecond,
		Visible:  lease,
		Parallel: true,
	})
}

// TestContractHoldsUnderRandomDisconnects runs the contract of stores while one command in fifteen
// breaks its connection. The proxy drops that command, so a change with an unknown outcome has
// certainly not run. It can be repeated, and every promise must hold.
func TestContractHoldsUnderRandomDisconnects(t *testing.T) {
	t.Parallel()
	p := startProxy(t, redistest.Start(t, redistest.Options{}).Addr())
	connect := func(t testing.TB, namespace string) driver.Store {
		// An Open that fails leaves the sessions of its trial behind.
		o, breakConnections := p.spareConnections(redisstore.Options{Namespace: namespace})
		s := mustOpen(t, "redis://"+p.Addr(), o)
		breakConnections()
		return repeatingStore{s, namespace}
	}
	p.odds.Store(15)
	t.Cleanup(func() {
		if n := p.lost.Load(); n < 100 {
			t.Errorf("%d connections broke, too few to show anything", n)
		}
	})
	storetest.Run(t, storetest.Harness{
		Open:     func(t testing.TB) driver.Store { return connect(t, fmt.Sprint("lost", lastNamespace.Add(1))) },
		Second:   func(t testing.TB, s driver.Store) driver.Store { return connect(t, s.(repeatingStore).namespace) },
		Wait:     wait,
		Unit:     unit,
		Slack:    480 * time.Millisecond,
		Visible:  lease,
		Parallel: true,
	})
}

// repeatingStore repeats changes and ends whose outcome is unknown.
type repeatingStore struct {
	*redisstore.Store
	namespace string
}

func (s repeatingStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (res *driver.Result, err error) {
	for {
		if res, err = s.Store.Apply(ctx, id, c); !errors.Is(err, driver.ErrUnknown) || ctx.Err() != nil {
			return res, err
		}
	}
}

// EndUser returns the sessions that any of the calls has ended.
func (s repeatingStore) EndUser(ctx context.Context, owner driver.Hash, which driver.Selection) ([]driver.ID, error) {
	var ended []driver.ID
	for {
		some, err := s.Store.EndUser(ctx, owner, which)
		ended = append(ended, some...)
		if !errors.Is(err, driver.ErrUnknown) || ctx.Err() != nil {
			return ended, err
		}
	}
}
