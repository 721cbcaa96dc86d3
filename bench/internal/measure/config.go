// Package measure runs the application on each system, loads it, and counts what a request costs.
package measure

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/load"
	"github.com/coatcheck-go/session/bench/internal/report"
)

// Config says what to measure, and how thoroughly.
type Config struct {
	Systems     []app.System
	Cases       []string
	Connections []int // each number of connections is measured by itself
	Rounds      int

	Limit    load.Limit    // of one measurement
	Warmup   time.Duration // before it
	Sessions int           // that the requests are spread over; at least one a connection
	Pool     int           // connections to Redis of clients with a pool; 0: as many as the server has

	Updates        int      // increments of one session, to count the lost ones
	AtATime        int      // that many in flight
	MemorySessions int      // sessions to measure the memory of one with; 0: do not
	RedisConfig    []string // "name value" each

	// Progress, if set, is told of each step before it is taken. It runs on the caller's goroutine.
	Progress func(Step)
}

// Step is one step of a run.
type Step struct {
	Number, Of int
	What       string
}

// Cases returns the names of all cases, in the order of the report.
func Cases() []string { return []string{report.Read, report.Write, report.SignIn} }

// FindCases returns the cases called names, in the order of the report; all of them if names is empty.
func FindCases(names []string) ([]string, error) {
	if len(names) == 0 {
		return Cases(), nil
	}
	for _, name := range names {
		if !slices.Contains(Cases(), name) {
			return nil, fmt.Errorf("no case %q; there are %s", name, strings.Join(Cases(), ", "))
		}
	}
	return slices.DeleteFunc(Cases(), func(name string) bool { return !slices.Contains(names, name) }), nil
}

// requests returns what the load of a case consists of: a request for each session, or one for all newcomers.
func requests(kind string, cookies []string) [][]byte {
	if kind == report.SignIn {
		return [][]byte{load.Request("POST", app.PathSignIn, "")}
	}
	var list [][]byte
	for _, cookie := range cookies {
		if kind == report.Read {
			list = append(list, load.Request("GET", app.PathRead, cookie))
		} else {
			list = append(list, load.Request("POST", app.PathWrite, cookie))
		}
	}
	return list
}
