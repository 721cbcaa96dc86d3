package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
	"github.com/coatcheck-go/session/storetest"
)

// TestContractHoldsUnderRandomDisconnects runs the whole suite over connections of which one command in fifteen finds itself cut off. What the store then
// calls unknown has certainly not run, see proxy: so it may be repeated, and every promise must hold.
func TestContractHoldsUnderRandomDisconnects(t *testing.T) {
	t.Parallel()
	p := startProxy(t, redistest.Start(t, redistest.Options{}).Addr())
	connect := func(t testing.TB, namespace string) driver.Store {
		for {
			s, err := redisstore.Open(t.Context(), "redis://"+p.Addr(), redisstore.Options{Namespace: namespace})
			if err == nil {
				t.Cleanup(func() { s.Close() })
				return again{s, namespace}
			}
		}
	}
	p.odds.Store(15)
	t.Cleanup(func() {
		if n := p.lost.Load(); n < 100 {
			t.Errorf("%d connections were lost, too few to show anything", n)
		}
	})
	storetest.Run(t, storetest.Harness{
		Open:     func(t testing.TB) driver.Store { return connect(t, fmt.Sprint("lost", lastNamespace.Add(1))) },
		Second:   func(t testing.TB, s driver.Store) driver.Store { return connect(t, s.(again).namespace) },
		Wait:     func(_ testing.TB, d time.Duration) { time.Sleep(d) },
		Unit:     2 * time.Second,
		Slack:    480 * time.Millisecond,
		Visible:  2 * time.Second,
		Parallel: true,
	})
}

// again repeats a change whose outcome is not known.
type again struct {
	*redisstore.Store
	namespace string
}

func (a again) Apply(ctx context.Context, id driver.ID, c *driver.Change) (res *driver.Result, err error) {
	for {
		if res, err = a.Store.Apply(ctx, id, c); !errors.Is(err, driver.ErrUnknown) || ctx.Err() != nil {
			return res, err
		}
	}
}

// servers are those that every topology is tried on. The script redistest/servers/install.sh installs what is missing.
var servers = []string{"redis-7.0", "redis-8.0", "valkey-8.1"}

// topologies start servers and say how to reach them.
var topologies = []struct {
	name  string
	start func(t testing.TB, o redistest.Options) (url string)
}{
	{"standalone", func(t testing.TB, o redistest.Options) string {
		return "redis://" + redistest.Start(t, o).Addr()
	}},
	{"sentinel", func(t testing.TB, o redistest.Options) string {
		s := redistest.StartSentinel(t, o)
		return sentinelURL(s)
	}},
	{"cluster", func(t testing.TB, o redistest.Options) string {
		return "redis+cluster://" + strings.Join(redistest.StartCluster(t, o).Addrs(), ",")
	}},
}

// TestStore runs the contract of stores on each topology, with the near cache and without, on each server.
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

// opened is a store with what another one on the same data needs.
type storeWithOptions struct {
	*redisstore.Store
	options redisstore.Options
}

// lastNamespace keeps the cases apart that use one server at the same time.
var lastNamespace atomic.Int64

func runContract(t *testing.T, url string, o redisstore.Options) {
	o.Events = 1000
	o.Timeout = 5 * time.Second // the machine that tests run on may be slow
	again := func(t testing.TB, s driver.Store) driver.Store {
		o := s.(storeWithOptions).options
		return storeWithOptions{mustOpen(t, url, o), o}
	}
	storetest.Run(t, storetest.Harness{
		Open: func(t testing.TB) driver.Store {
			o := o
			o.Namespace = fmt.Sprint("test", lastNamespace.Add(1))
			return storeWithOptions{mustOpen(t, url, o), o}
		},
		Second:   again,
		Reopen:   again,
		Wait:     func(_ testing.TB, d time.Duration) { time.Sleep(d) },
		Unit:     2 * time.Second, // opening a store on a busy machine takes some of it
		Slack:    480 * time.Millisecond,
		Visible:  2 * time.Second, // the lease
		Parallel: true,
	})
}
