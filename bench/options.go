package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/measure"
	"github.com/coatcheck-go/session/bench/internal/redisd"
)

// options are the parsed command line.
type options struct {
	config         measure.Config
	json           bool
	markdown, svg  string // names of files to write; may be empty
	systems, cases list
	parts          list
	connections    list
}

const usage = `bench measures what a session costs. It runs the same small application on each session library. All of
them use one real Redis server, which bench starts and stops.

Usage:

  go run ./bench [flags]

Examples:

  go run ./bench                                     measure everything: up to 7 rounds, at most about 8 minutes
  go run ./bench -rounds 1 -duration 300ms           a first look: about a minute
  go run ./bench -systems bare,scs -cases read       some systems and one case
  go run ./bench -connections 64,512                 a second run, with many connections
  go run ./bench -json > results.jsonl               one JSON object per line, for other programs
  go run ./bench -parts memory,scripts               some parts only
  go run ./bench -within 0 -rounds 15                more rounds, without a bound: about 15 minutes
  go run ./bench -server valkey-server               another server than redis-server
  go run ./bench -md docs/bench.md -svg docs/img/bench.svg   write the tables and the chart of the documentation

Use a machine without other load. Compare the CPU time per request, which other load affects least.

Flags:

`

// parseOptions parses the command line. It prints the help to stdout, and errors to stderr.
func parseOptions(args []string, stdout, stderr io.Writer) (options, error) {
	o := options{connections: list{"64"}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	o.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, _ = io.WriteString(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return o, err
	}
	if err == nil {
		err = o.check(flags.Args())
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "bench: %v\nRun it with -help for the flags.\n", err)
	}
	return o, err
}

// declare defines the flags.
func (o *options) declare(flags *flag.FlagSet) {
	c := &o.config
	flags.Var(&o.systems, "systems",
		"measure only the systems `NAMES`, separated by commas: "+strings.Join(app.Names(app.Systems()), ","))
	flags.Var(&o.cases, "cases",
		"measure only the cases `NAMES`, separated by commas: "+strings.Join(measure.Cases(), ","))
	flags.Var(&o.parts, "parts",
		"run only the parts `NAMES`, separated by commas: "+strings.Join(measure.Parts(), ","))
	flags.Var(&o.connections, "connections",
		"keep `N` connections busy; several numbers, separated by commas, are measured one after the other")
	flags.IntVar(&c.Rounds, "rounds", 7,
		"measure everything `N` times and report medians; prefer an odd number")
	flags.DurationVar(&c.Within, "within", 8*time.Minute,
		"begin no further round that would end later than this after the start; 0: no bound")
	flags.StringVar(&c.Server, "server", redisd.DefaultBinary,
		"run `PROGRAM` as the Redis server: a path, or a name to be found in PATH")
	flags.DurationVar(&c.Limit.Duration, "duration", time.Second,
		"how long to load each system, per case and round")
	flags.IntVar(&c.Limit.Requests, "requests", 0,
		"send `N` requests per case and round, instead of loading for -duration")
	flags.DurationVar(&c.Warmup, "warmup", 300*time.Millisecond,
		"how long to load each system before the measurement begins")
	flags.IntVar(&c.Sessions, "sessions", 1000,
		"spread the requests over `N` sessions; at least one session per connection is used")
	flags.IntVar(&c.Pool, "pool", 0,
		"give clients with a connection pool `N` connections to Redis (default: the number of -connections)")
	flags.IntVar(&c.Updates, "updates", 401,
		"increment the counter of one session `N` times, and count the lost increments")
	flags.IntVar(&c.AtATime, "at-a-time", 16,
		"send `N` of those increments at a time")
	flags.IntVar(&c.MemorySessions, "memory-sessions", 5000,
		"measure the memory of Redis with `N` sessions")
	flags.IntVar(&c.ScriptCalls, "script-calls", 2000,
		"call each script `N` times per round")
	flags.Func("redis",
		"set a parameter of Redis, as in `\"NAME VALUE\"`; may be repeated", o.addRedis)
	flags.BoolVar(&o.json, "json", false, "print one JSON object per line instead of tables")
	flags.StringVar(&o.markdown, "md", "", "also write the tables to `FILE`, as Markdown")
	flags.StringVar(&o.svg, "svg", "", "also write the chart to `FILE`, as SVG")
}

// addRedis handles one -redis flag.
func (o *options) addRedis(setting string) error {
	if len(strings.Fields(setting)) != 2 {
		return fmt.Errorf("must be %q", "NAME VALUE")
	}
	o.config.RedisConfig = append(o.config.RedisConfig, setting)
	return nil
}

// check completes the configuration from the lists, and refuses invalid values.
func (o *options) check(rest []string) (err error) {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q: bench takes only flags", rest[0])
	}
	c := &o.config
	if c.Systems, err = app.Find(o.systems); err != nil {
		return err
	}
	if c.Cases, err = measure.FindCases(o.cases); err != nil {
		return err
	}
	if c.Parts, err = measure.FindParts(o.parts); err != nil {
		return err
	}
	for _, text := range o.connections {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-connections %q: must be at least 1", text)
		}
		c.Connections = append(c.Connections, n)
	}
	if min(c.Rounds, c.Sessions, c.AtATime, c.Updates, c.MemorySessions, c.ScriptCalls) < 1 {
		return fmt.Errorf("-rounds, -sessions, -updates, -at-a-time, -memory-sessions and -script-calls must be at least 1")
	}
	if c.Limit.Requests < 0 || c.Limit.Duration <= 0 || c.Warmup < 0 || c.Within < 0 || c.Pool < 0 {
		return fmt.Errorf("numbers and durations must not be negative, and -duration must not be 0")
	}
	return nil
}

// list is a flag with names separated by commas.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(text string) error {
	*l = strings.Split(text, ",")
	return nil
}
