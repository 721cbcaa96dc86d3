package redisstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestClearingManyMapsCostsNoMoreThanRemovingManyValues: Redis serves nobody else while a script
// runs. So the script must not compare each stored name with each cleared map.
func TestClearingManyMapsCostsNoMoreThanRemovingManyValues(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	id, o := newSession()
	first := &driver.Change{Verifier: o.Verifier, MaxSize: 1 << 20}
	for i := range 1000 {
		key := driver.Key(fmt.Sprintf("m:%s%d", strings.Repeat("k", 240), i))
		first.Ops = append(first.Ops, driver.Op{Kind: driver.Set, Key: key, Value: []byte("1")})
	}
	_, err := s.Create(t.Context(), id, o, first)
	must(t, err)
	cost := func(kind driver.Kind, name string) time.Duration {
		c := &driver.Change{Verifier: o.Verifier, MaxSize: 1 << 20}
		for i := range driver.MaxOps {
			c.Ops = append(c.Ops, driver.Op{Kind: kind, Key: driver.Key(fmt.Sprintf(name, i))})
		}
		before := serverTime(t, node)
		for range 5 { // so that what the server does besides counts little
			_, err = s.Apply(t.Context(), id, c)
			must(t, err)
		}
		return serverTime(t, node) - before
	}
	removals := cost(driver.Unset, "m:x%d")
	clears := cost(driver.UnsetEntries, "z%d")
	t.Logf("%d removals take the server %v, as many clears %v", driver.MaxOps, removals, clears)
	if removals <= 0 || clears > 10*removals {
		t.Errorf("clears take the server %v, removals %v", clears, removals)
	}
}
