package redisstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestFeedNotHeardYet: what a failover loses of a publisher of whom the follower has heard nothing since it began is a gap, too.
func TestFeedNotHeardYet(t *testing.T) {
	few(t)
	const key = "coatcheck:events"
	node := redistest.Start(t, redistest.Options{})
	a, b := open(t, "redis://"+node.Addr(), publishing), open(t, "redis://"+node.Addr(), publishing)
	has := func(want int64) {
		t.Helper()
		eventually(t, 5*time.Second, func() error {
			if n, err := node.Do("XLEN", key); err != nil || n != want {
				return fmt.Errorf("%v entries, error %v, want %d", n, err, want)
			}
			return nil
		})
	}
	publish(a, 1, 1, 5, 0)
	has(5)
	f := follow(t, b)
	f.stop(t, func() { publish(b, 2, 1, 1, 0) })
	dump, err := node.Do("DUMP", key)
	ok(t, err)
	publish(a, 1, 6, 9, 0)
	has(10)
	_, err = node.Do("RESTORE", key, "0", dump.(string), "REPLACE")
	ok(t, err)
	publish(a, 1, 10, 10, 0)
	f.hold.Unlock()
	if got := f.until(t, 5*time.Second, "1:10"); len(got) != 3 || got[1] != gap {
		t.Errorf("told of %q, want a gap before the last", got)
	}
}
