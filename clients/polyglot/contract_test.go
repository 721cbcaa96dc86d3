package polyglot_test

import (
	"slices"
	"sync"
	"testing"
)

// TestContractWithGo runs the contract suite with the Go library, on one server and on a Cluster,
// with and without a near cache.
func TestContractWithGo(t *testing.T) {
	for _, topology := range topologies {
		for _, cache := range []struct {
			name string
			size int
		}{{"no near cache", -1}, {"near cache", 0}} {
			t.Run(topology.name+"/"+cache.name, func(t *testing.T) {
				s := topology.start(t)
				g := newGoSteps(cache.size)
				t.Cleanup(g.close)
				runSuite(t, s, func(string) stepper { return g }, cache.size >= 0, false)
			})
		}
	}
}

// atATime is how many scenarios run at the same time. Most of their time is waiting, so there are
// more than t.Parallel would run.
const atATime = 8

// runSuite runs all scenarios on a server. Those that need the server for themselves come last.
// copies says whether a client may keep copies of sessions, and shift whether clients can shift
// their clocks.
func runSuite(t *testing.T, s *server, steppers func(client string) stepper, copies, shift bool) {
	run := func(c scenario) {
		t.Run(c.Name, func(t *testing.T) {
			(&runner{TB: t, server: s, steppers: steppers, copies: copies, scenario: &c}).run()
			if t.Failed() {
				t.Log(c.Claim)
			}
		})
	}
	var alone []scenario
	queue := make(chan scenario)
	var wg sync.WaitGroup
	for range atATime {
		wg.Go(func() {
			for c := range queue {
				run(c)
			}
		})
	}
	for _, c := range mustReadSuite(t) {
		switch {
		case slices.Contains(c.Needs, "own server"):
			alone = append(alone, c)
		case slices.Contains(c.Needs, "clock") && !shift:
			t.Logf("%s is left out: the clients cannot shift their clocks", c.Name)
		default:
			queue <- c
		}
	}
	close(queue)
	wg.Wait()
	for _, c := range alone {
		run(c)
	}
}
