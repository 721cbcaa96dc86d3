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
	Parts       []string
	Connections []int // each number of connections is measured separately
	Rounds      int
	Within      time.Duration // no further round begins if it would end later; 0: no bound

	Server string // the Redis server: a path, or a name to be found in PATH

	Limit    load.Limit    // of one measurement
	Warmup   time.Duration // before each measurement
	Sessions int           // over which the requests are spread; at least one per connection
	Pool     int           // connections to Redis, for clients with a pool; 0: as Connections

	Updates        int      // increments of one session, of which the lost ones are counted
	AtATime        int      // increments in flight at the same time
	MemorySessions int      // sessions that are stored to measure memory
	ScriptCalls    int      // calls of each script in each round
	RedisConfig    []string // "name value" each

	// Progress, if set, is called before each step, on the caller's goroutine.
	Progress func(Step)
}

// Step is one step of a run.
type Step struct {
	Number, Of int
	Within     time.Duration // the bound of the whole run; 0: none
	What       string
}

// Cases returns the names of all cases, in the order of the report.
func Cases() []string { return []string{report.Read, report.Write, report.SignIn} }

// The parts of a run, in their order. The speed comes last: it takes the time that is left.
const (
	Correctness = "correctness"
	Memory      = "memory"
	Scripts     = "scripts"
	InProcess   = "in-process"
	Speed       = "speed"
)

// Parts returns the names of all parts.
func Parts() []string { return []string{Correctness, Memory, Scripts, InProcess, Speed} }

// FindCases returns the cases with these names, in the order of the report. Without names, it
// returns all.
func FindCases(names []string) ([]string, error) {
	return find("case", Cases(), names)
}

// FindParts returns the parts with these names, in their order. Without names, it returns all.
func FindParts(names []string) ([]string, error) {
	return find("part", Parts(), names)
}

func find(what string, all, names []string) ([]string, error) {
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("unknown %s %q: the %ss are %s", what, name, what, strings.Join(all, ", "))
		}
	}
	return slices.DeleteFunc(all, func(name string) bool { return !slices.Contains(names, name) }), nil
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
