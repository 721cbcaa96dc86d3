package redisstore_test

import (
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
					t.Run(cache, func(t *testing.T) { runSuite(t, url, redisstore.Options{NearCache: size}) })
				}
			})
		}
	}
}

// opened is a store with what another one on the same data needs.
type opened struct {
	*redisstore.Store
	options redisstore.Options
}

// lastNamespace keeps the cases apart that use one server at the same time.
var lastNamespace atomic.Int64

// sentinelURL is the address of a store on these servers.
func sentinelURL(s *redistest.Sentinel) string {
	return "redis+sentinel://" + strings.Join(s.Addrs(), ",") + "/" + s.Name
}

func runSuite(t *testing.T, url string, o redisstore.Options) {
	o.Events = 1000
	o.Timeout = 5 * time.Second // the machine that tests run on may be slow
	again := func(t testing.TB, s driver.Store) driver.Store {
		o := s.(opened).options
		return opened{open(t, url, o), o}
	}
	storetest.Run(t, storetest.Harness{
		Open: func(t testing.TB) driver.Store {
			o := o
			o.Namespace = fmt.Sprint("test", lastNamespace.Add(1))
			return opened{open(t, url, o), o}
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
