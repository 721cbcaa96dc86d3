package redisstore_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestClearingManyMapsCostsNoMoreThanRemovingManyValues: Redis serves nobody else while a script
// runs. So the script must not compare each stored name with each cleared map.
func TestClearingManyMapsCostsNoMoreThanRemovingManyValues(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	first := &driver.Change{Verifier: o.Verifier, MaxSize: 1 << 20}
	for i := range 1000 {
		key := driver.Key(fmt.Sprintf("m:%s%d", strings.Repeat("k", 240), i))
		first.Ops = append(first.Ops, driver.Op{Kind: driver.Set, Key: key, Value: []byte("1")})
	}
	_, err := s.Create(t.Context(), id, o, first)
	must(t, err)
	cost := func(kind driver.Kind, name string) int { // microseconds in the server
		_, err := node.Do("CONFIG", "RESETSTAT")
		must(t, err)
		c := &driver.Change{Verifier: o.Verifier, MaxSize: 1 << 20}
		for i := range driver.MaxOps {
			c.Ops = append(c.Ops, driver.Op{Kind: kind, Key: driver.Key(fmt.Sprintf(name, i))})
		}
		_, err = s.Apply(t.Context(), id, c)
		must(t, err)
		stats, err := node.Do("INFO", "commandstats")
		must(t, err)
		m := regexp.MustCompile(`cmdstat_evalsha:calls=\d+,usec=(\d+)`).FindStringSubmatch(stats.(string))
		if m == nil {
			t.Fatalf("no script ran: %v", stats)
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	removals := cost(driver.Unset, "m:x%d")
	clears := cost(driver.UnsetEntries, "z%d")
	t.Logf("%d removals take %d µs, as many clears %d µs", driver.MaxOps, removals, clears)
	if clears > 10*removals {
		t.Errorf("clears take %d µs, removals %d µs", clears, removals)
	}
}
