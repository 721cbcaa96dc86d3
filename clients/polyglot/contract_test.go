package polyglot_test

import (
	"slices"
	"sync"
	"testing"
)

// TestContractWithGo runs the contract suite with the Go library: on one server with a near cache,
// and on a Cluster without.
func TestContractWithGo(t *testing.T) {
	onEachTopology(t, func(t *testing.T, s *server) {
		nearCache := 0 // the default size
		if s.node == nil {
			nearCache = -1
		}
		g := newGoSteps(nearCache)
		t.Cleanup(g.close)
		runSuite(t, s, func(int, *scenario, string) stepper { return g }, nearCache == 0)
	})
}

// TestContractAcrossLanguages runs the contract suite with clients in different languages. So what
// one language writes, another one reads. Without clients in other languages, Go runs against Go.
func TestContractAcrossLanguages(t *testing.T) {
	round := 0
	onEachTopology(t, func(t *testing.T, s *server) {
		round++
		programs := startPrograms(t, s)
		runSuite(t, s, func(index int, c *scenario, client string) stepper {
			if client == "a" && slices.Contains(c.Needs, "rotation") {
				return programs[0] // in Go
			}
			return programs[(index+round+int(client[0]))%len(programs)]
		}, false)
	})
}

// atATime is how many scenarios run at the same time. Most of their time is waiting, so there are
// more than t.Parallel would run.
const atATime = 8

// runSuite runs all scenarios on a server. Those that need the server for themselves come first,
// while few clients have connections.
// steppers returns the step function of a client of the scenario with this index. copies says
// whether a client may keep copies of sessions.
func runSuite(t *testing.T, s *server, steppers func(index int, c *scenario, client string) stepper, copies bool) {
	run := func(index int, c scenario) {
		t.Run(c.Name, func(t *testing.T) {
			of := func(client string) stepper { return steppers(index, &c, client) }
			(&runner{TB: t, server: s, steppers: of, copies: copies, scenario: &c}).run()
			if t.Failed() {
				t.Log(c.Claim)
			}
		})
	}
	type numbered struct {
		index int
		scenario
	}
	var others []numbered
	for i, c := range mustReadSuite(t) {
		switch {
		case slices.Contains(c.Needs, "own server"):
			run(i, c)
		case slices.Contains(c.Needs, "clock"):
			t.Logf("%s is left out: a Go program cannot shift its clock", c.Name)
		default:
			others = append(others, numbered{i, c})
		}
	}
	queue := make(chan numbered)
	var wg sync.WaitGroup
	for range atATime {
		wg.Go(func() {
			for c := range queue {
				run(c.index, c.scenario)
			}
		})
	}
	for _, c := range others {
		queue <- c
	}
	close(queue)
	wg.Wait()
}
