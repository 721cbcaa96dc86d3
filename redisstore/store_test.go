package redisstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
	"github.com/coatcheck-go/session/storetest"
)

func TestStandalone(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	for _, near := range []int{-1, 0} {
		t.Run(fmt.Sprint("near ", near), func(t *testing.T) {
			storetest.Run(t, storetest.Harness{
				Open: func(t testing.TB) driver.Store {
					return open(t, "redis://"+node.Addr(), redisstore.Options{NearCache: near})
				},
				Second: func(t testing.TB, _ driver.Store) driver.Store {
					return open(t, "redis://"+node.Addr(), redisstore.Options{NearCache: near})
				},
				Wait:     func(_ testing.TB, d time.Duration) { time.Sleep(d) },
				Unit:     time.Second,
				Slack:    200 * time.Millisecond,
				Visible:  2 * time.Second,
				Parallel: true,
			})
		})
	}
}
