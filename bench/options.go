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
)

// options are the command line.
type options struct {
	config         measure.Config
	json           bool
	markdown, svg  string // files to write
	systems, cases list
	connections    list
}

const usage = `bench measures what a session costs: the same small application on each session library, all on one real
Redis that bench starts and ends itself.

Usage:

  go run ./bench [flags]

Examples:

  go run ./bench                                     everything, with medians of 7 rounds: some 7 minutes
  go run ./bench -rounds 1 -duration 500ms           a first look: half a minute
  go run ./bench -systems bare,scs -cases read       a part of it
  go run ./bench -connections 64,512                 also under many connections
  go run ./bench -json > results.jsonl               one object a line, for other programs
  go run ./bench -md bench.md -svg bench.svg         the table and the chart of the README
  go run ./bench -redis "hash-max-listpack-value 1024"   with the advised setting of Redis

Quiet machines give better figures: what to compare is the CPU time a request, which other load disturbs least.

Flags:

`

// parseOptions reads the command line. What there is to say about it, be it an error or -help, has then been said.
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

// declare says which flags there are.
func (o *options) declare(flags *flag.FlagSet) {
	c := &o.config
	flags.Var(&o.systems, "systems",
		"measure only these `NAMES`, with commas: "+strings.Join(app.Names(app.Systems()), ","))
	flags.Var(&o.cases, "cases",
		"measure only these `NAMES`, with commas: "+strings.Join(measure.Cases(), ","))
	flags.Var(&o.connections, "connections",
		"keep `N` connections busy; with commas, each number is measured by itself")
	flags.IntVar(&c.Rounds, "rounds", 7,
		"measure everything `N` times and report medians; an odd number is best")
	flags.DurationVar(&c.Limit.Duration, "duration", 2*time.Second,
		"load each system for so long a case and round")
	flags.IntVar(&c.Limit.Requests, "requests", 0,
		"send `N` requests a case and round, instead of -duration")
	flags.DurationVar(&c.Warmup, "warmup", 500*time.Millisecond,
		"load it for so long before, unmeasured")
	flags.IntVar(&c.Sessions, "sessions", 1000,
		"spread the requests over `N` sessions; at least one a connection")
	flags.IntVar(&c.Pool, "pool", 0,
		"let clients with a pool keep `N` connections to Redis (default: as many as -connections)")
	flags.IntVar(&c.Updates, "updates", 401,
		"count the lost ones of `N` increments of one session")
	flags.IntVar(&c.AtATime, "at-a-time", 16,
		"send `N` of those increments at a time")
	flags.IntVar(&c.MemorySessions, "memory-sessions", 10_000,
		"measure Redis' memory with `N` sessions; 0 to leave it out")
	flags.Func("redis",
		"set a parameter of Redis, as in `\"NAME VALUE\"`; may be given more than once", o.addRedis)
	flags.BoolVar(&o.json, "json", false, "print one JSON object a line, instead of tables")
	flags.StringVar(&o.markdown, "md", "", "also write the tables as Markdown to `FILE`")
	flags.StringVar(&o.svg, "svg", "", "also write the chart to `FILE`")
}

// addRedis takes one -redis.
func (o *options) addRedis(setting string) error {
	if len(strings.Fields(setting)) != 2 {
		return fmt.Errorf("write %q", "NAME VALUE")
	}
	o.config.RedisConfig = append(o.config.RedisConfig, setting)
	return nil
}

// check makes the lists into the configuration and refuses what makes no sense.
func (o *options) check(rest []string) (err error) {
	if len(rest) > 0 {
		return fmt.Errorf("%q: bench takes flags only", rest[0])
	}
	c := &o.config
	if c.Systems, err = app.Find(o.systems); err != nil {
		return err
	}
	if c.Cases, err = measure.FindCases(o.cases); err != nil {
		return err
	}
	for _, text := range o.connections {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-connections %q: not a number of connections", text)
		}
		c.Connections = append(c.Connections, n)
	}
	if c.Rounds < 1 || c.Sessions < 1 || c.AtATime < 1 || c.Updates < 1 {
		return fmt.Errorf("-rounds, -sessions, -updates and -at-a-time are at least 1")
	}
	if c.Limit.Requests < 0 || c.Limit.Duration <= 0 || c.Warmup < 0 || c.MemorySessions < 0 || c.Pool < 0 {
		return fmt.Errorf("no number and no duration is negative, and -duration is not 0")
	}
	return nil
}

// list is a flag of names with commas.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(text string) error {
	*l = strings.Split(text, ",")
	return nil
}
