package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
	"github.com/coatcheck-go/session/storetest"
)

// TestDisconnectedAtRandom runs the whole suite over connections of which one command in fifteen finds itself cut off. What the store then
// calls unknown has certainly not run, see proxy: so it may be repeated, and every promise must hold.
func TestDisconnectedAtRandom(t *testing.T) {
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
