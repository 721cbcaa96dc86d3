// Package measure runs the application on each system, sends load, and measures the cost of a
// request.
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

// Config says what to measure, and how long.
type Config struct {
	Systems     []app.System
	Cases       []string
	Connections []int // each number of connections is measured separately
	Rounds      int

	Limit    load.Limit    // of one measurement
	Warmup   time.Duration // before each measurement
	Sessions int           // over which the requests are spread; at least one per connection
	Pool     int           // connections to Redis, for clients with a pool; 0: as Connections

	Updates        int      // increments of one session, of which the lost ones are counted
	AtATime        int      // increments in flight at the same time
	MemorySessions int      // sessions that are stored to measure memory; 0: memory is not measured
	RedisConfig    []string // "name value" each

	// Progress, if set, is called before each step, on the caller's goroutine.
	Progress func(Step)
}

// Step is one step of a run.
type Step struct {
	Number, Of int
	What       string
}

// Cases returns the names of all cases, in the order of the report.
func Cases() []string { return []string{report.Read, report.Write, report.SignIn} }

// FindCases returns the cases with these names, in the order of the report. Without names, it
// returns all.
func FindCases(names []string) ([]string, error) {
	if len(names) == 0 {
		return Cases(), nil
	}
	for _, name := range names {
		if !slices.Contains(Cases(), name) {
			return nil, fmt.Errorf("unknown case %q: the cases are %s", name, strings.Join(Cases(), ", "))
		}
	}
	return slices.DeleteFunc(Cases(), func(name string) bool { return !slices.Contains(names, name) }), nil
}

// requests returns the requests of a case: one for each session, or one without a session for
// sign-in.
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
