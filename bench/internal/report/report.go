// Package report computes results from samples, and writes them as text, JSON, Markdown and a
// chart.
package report

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/coatcheck-go/session/bench/internal/app"
)

// The cases, in the order of the report.
const (
	Read   = app.CaseRead
	Write  = app.CaseWrite
	SignIn = app.CaseSignIn
)

// Report is everything that a run has measured.
type Report struct {
	Setting   Setting
	Results   []Result // by connections, case and system
	Facts     []Facts  // by system
	Memory    []Memory
	IndexSize float64 // bytes in Redis of the index of a user with one session; 0 if not measured
	Scripts   []Script
	InProcess []InProcess
}

// Setting is the environment of the run.
type Setting struct {
	Go, Platform, Date string
	Redis              string // product and version
	Cores              int
	Rounds             int
	Limit              string    // duration or number of requests of each round
	Versions           []Version // of the systems' modules
	RedisConfig        []string  // "name value", where not the default
	Default, Advised   string    // "name value" of the setting that has two values in the report
}

// Version is a module of a system, with its version.
type Version struct{ System, Module, Version string }

// Sample is the measurement of one system in one case and one round. All figures except the last
// two are per request.
type Sample struct {
	ServerCPU, RedisCPU   float64 // µs, user and system, as counted by the operating system
	RequestsPerSecond     float64
	P50, P99              float64 // µs
	Commands              float64 // sent to Redis by the application
	CommandNames          []string
	CommandsProcessed     float64 // by Redis, including those of scripts and heartbeats
	RedisIn, RedisOut     float64 // bytes to and from Redis
	RequestSize, Response float64 // bytes of HTTP
	Requests, Errors      int
}

// Result is the median of the samples of one system and case. Its JSON is what -json prints.
type Result struct {
	System            string  `json:"system"`
	Case              string  `json:"case"`
	ServerCPU         float64 `json:"server_cpu_us"`
	RedisCPU          float64 `json:"redis_cpu_us"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	P50               float64 `json:"p50_us"`
	P99               float64 `json:"p99_us"`
	Commands          float64 `json:"commands"`

	Connections       int       `json:"connections"`
	Rounds            int       `json:"rounds"`
	Requests          int       `json:"requests"` // in all rounds
	Errors            int       `json:"errors"`
	ServerCPUMin      float64   `json:"server_cpu_us_min"` // of all rounds
	ServerCPUMax      float64   `json:"server_cpu_us_max"`
	CommandNames      []string  `json:"command_names"`
	CommandsProcessed float64   `json:"commands_processed"`
	CPURounds         []float64 `json:"cpu_us_rounds"` // server and Redis, by round
	RedisIn           float64   `json:"redis_bytes_in"`
	RedisOut          float64   `json:"redis_bytes_out"`
	RequestSize       float64   `json:"request_bytes"`
	ResponseSize      float64   `json:"response_bytes"`
}

// CPU returns the CPU time per request in µs, of the server and Redis together.
func (r Result) CPU() float64 { return r.ServerCPU + r.RedisCPU }

// over returns how many times the CPU time of other r takes.
func (r Result) over(other Result) Spread { return ratios(r.CPURounds, other.CPURounds) }

// Facts are the results of the tests that run once per system. nil means that the test did not run.
type Facts struct {
	System           string `json:"-"`
	Updates          *int   `json:"updates"`             // successful increments
	LostUpdates      *int   `json:"lost_updates"`        // missing in the counter
	BackAfterSignOut *bool  `json:"back_after_sign_out"` // the session came back
}

// Median returns the medians of samples, figure by figure.
func Median(system, kind string, connections int, samples []Sample) Result {
	of := func(figure func(Sample) float64) float64 {
		values := make([]float64, len(samples))
		for i, s := range samples {
			values[i] = figure(s)
		}
		return round(median(values))
	}
	r := Result{
		System: system, Case: kind, Connections: connections, Rounds: len(samples),
		ServerCPU:         of(func(s Sample) float64 { return s.ServerCPU }),
		RedisCPU:          of(func(s Sample) float64 { return s.RedisCPU }),
		RequestsPerSecond: of(func(s Sample) float64 { return s.RequestsPerSecond }),
		P50:               of(func(s Sample) float64 { return s.P50 }),
		P99:               of(func(s Sample) float64 { return s.P99 }),
		Commands:          of(func(s Sample) float64 { return s.Commands }),
		CommandsProcessed: of(func(s Sample) float64 { return s.CommandsProcessed }),
		RedisIn:           of(func(s Sample) float64 { return s.RedisIn }),
		RedisOut:          of(func(s Sample) float64 { return s.RedisOut }),
		RequestSize:       of(func(s Sample) float64 { return s.RequestSize }),
		ResponseSize:      of(func(s Sample) float64 { return s.Response }),
		CommandNames:      []string{},
	}
	byCPU := func(a, b Sample) int { return cmp.Compare(a.ServerCPU, b.ServerCPU) }
	r.ServerCPUMin = round(slices.MinFunc(samples, byCPU).ServerCPU)
	r.ServerCPUMax = round(slices.MaxFunc(samples, byCPU).ServerCPU)
	for _, s := range samples {
		r.CPURounds = append(r.CPURounds, round(s.ServerCPU+s.RedisCPU))
		r.Requests += s.Requests
		r.Errors += s.Errors
		if len(s.CommandNames) > 0 {
			r.CommandNames = s.CommandNames
		}
	}
	return r
}

// Middle returns the median of values, or 0 if there are none.
func Middle(values []float64) float64 { return spread(values).Median }

func median(values []float64) float64 {
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// round rounds to two decimals. Further digits are noise.
func round(f float64) float64 { return math.Round(f*100) / 100 }

// Micros returns d in µs.
func Micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// find returns the result of one system.
func (r Report) find(connections int, kind, system string) (Result, bool) {
	i := slices.IndexFunc(r.Results, func(res Result) bool {
		return res.Connections == connections && res.Case == kind && res.System == system
	})
	if i < 0 {
		return Result{}, false
	}
	return r.Results[i], true
}

// limit returns the lowest possible result of a case. For read, it is the application without
// sessions. For write and sign-in, it is the application with one plain Redis command.
func (r Report) limit(connections int, kind string) (Result, bool) {
	if kind == Read {
		return r.find(connections, kind, app.Bare)
	}
	return r.find(connections, kind, app.OneCommand)
}

// own returns the result of coatcheck.
func (r Report) own(connections int, kind string) (Result, bool) {
	return r.find(connections, kind, app.Coatcheck)
}

// tokens returns the results of tokens.
func (r Report) tokens(connections int, kind string) []Result {
	return slices.DeleteFunc(slices.Clone(r.Results), func(res Result) bool {
		return res.Connections != connections || res.Case != kind || app.RoleOf(res.System) != app.Token
	})
}

// bestPeer returns the result of the other library that takes the least CPU time.
func (r Report) bestPeer(connections int, kind string) (best Result, ok bool) {
	for _, res := range r.Results {
		switch {
		case res.Connections != connections || res.Case != kind:
		case app.RoleOf(res.System) != app.Peer:
		case !ok || res.CPU() < best.CPU():
			best, ok = res, true
		}
	}
	return best, ok
}

// groups calls f for each case and number of connections, with the results of that group.
func (r Report) groups(f func(connections int, kind string, results []Result)) {
	for start := 0; start < len(r.Results); {
		first, end := r.Results[start], start
		for end < len(r.Results) &&
			r.Results[end].Connections == first.Connections && r.Results[end].Case == first.Case {
			end++
		}
		f(first.Connections, first.Case, r.Results[start:end])
		start = end
	}
}
