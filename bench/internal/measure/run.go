package measure

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/load"
	"github.com/coatcheck-go/session/bench/internal/redisd"
	"github.com/coatcheck-go/session/bench/internal/report"
)

// bench is the state of one run.
type bench struct {
	Config
	redis    string // address of the Redis server
	observer *redisd.Observer
	start    time.Time
	step     int
	samples  map[group][]report.Sample

	defaultValue string // of the recommended setting
}

// group identifies one result.
type group struct {
	connections  int
	kind, system string
}

// Run measures everything that c asks for, with a Redis server of its own. In each round the
// systems take turns, and each round starts with a different system. Other load on the machine then
// affects all of them.
func Run(ctx context.Context, c Config) (report.Report, error) {
	server, err := redisd.Start(ctx, c.Server)
	if err != nil {
		return report.Report{}, err
	}
	defer server.Stop()
	observer, err := redisd.Observe(server.Addr)
	if err != nil {
		return report.Report{}, err
	}
	defer observer.Close()

	b := &bench{
		Config: c, redis: server.Addr, observer: observer, start: time.Now(), samples: map[group][]report.Sample{},
	}
	result, err := b.run(ctx)
	if ctx.Err() != nil { // it caused any other error
		err = context.Cause(ctx)
	}
	return result, err
}

// run runs the parts of Config.Parts.
func (b *bench) run(ctx context.Context) (report.Report, error) {
	var r report.Report
	err := b.configure(ctx)
	if err != nil {
		return r, err
	}
	if r.Setting, err = b.setting(ctx); err != nil {
		return r, err
	}
	parts := map[string]func(context.Context, *report.Report) error{
		Correctness: b.facts, Memory: b.memory, Scripts: b.scripts, InProcess: b.inProcess, Speed: b.speed,
	}
	for _, name := range b.Parts {
		if err := parts[name](ctx, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// speed measures the systems in rounds, and collects the medians. It stops early if Config.Within
// is about to be over.
func (b *bench) speed(ctx context.Context, r *report.Report) error {
	r.Setting.Rounds = 0
	for round := range b.Rounds {
		began := time.Now()
		if err := b.round(ctx, round); err != nil {
			return err
		}
		r.Setting.Rounds++
		if took := time.Since(began); b.Within > 0 && time.Since(b.start)+took > b.Within {
			break
		}
	}
	for _, connections := range b.Connections {
		for _, kind := range b.Cases {
			for _, system := range b.systemsIn(kind) {
				samples := b.samples[group{connections, kind, system.Name}]
				r.Results = append(r.Results, report.Median(system.Name, kind, connections, samples))
			}
		}
	}
	return nil
}

// systemsIn returns the systems that are measured in a case.
func (b *bench) systemsIn(kind string) []app.System {
	return slices.DeleteFunc(slices.Clone(b.Systems), func(s app.System) bool { return !s.Measures(kind) })
}

// round measures each system once in each case.
func (b *bench) round(ctx context.Context, round int) error {
	for _, connections := range b.Connections {
		for turn, kind := range b.Cases {
			systems := b.systemsIn(kind)
			for i := range systems {
				system := systems[(i+turn+round)%len(systems)]
				b.progress("round %d of %d: %s, %s, %d connections", round+1, b.Rounds, kind, system.Name, connections)
				sample, err := b.measure(ctx, system, kind, connections)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", system.Name, kind, err)
				}
				at := group{connections, kind, system.Name}
				b.samples[at] = append(b.samples[at], sample)
			}
		}
	}
	return nil
}

// progress reports the next step.
func (b *bench) progress(format string, args ...any) {
	b.step++
	if b.Progress != nil {
		b.Progress(Step{Number: b.step, Of: b.steps(), Within: b.Within, What: fmt.Sprintf(format, args...)})
	}
}

// steps returns the number of steps of the run. If Config.Within ends the run early, there are
// fewer.
func (b *bench) steps() int {
	rounds := 0
	for _, kind := range b.Cases {
		rounds += len(b.Connections) * len(b.systemsIn(kind))
	}
	tested := 0
	for _, s := range b.Systems {
		if s.Tests.Updates || s.Tests.SignOut {
			tested++
		}
	}
	total := 0
	for name, n := range map[string]int{
		Correctness: tested, Memory: 1 + len(b.memoryRows()), Scripts: b.Rounds, InProcess: b.Rounds,
		Speed: b.Rounds * rounds,
	} {
		if slices.Contains(b.Parts, name) {
			total += n
		}
	}
	return total
}

// setting describes the environment and the options of the run.
func (b *bench) setting(ctx context.Context) (report.Setting, error) {
	server, err := b.observer.Server(ctx)
	return report.Setting{
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(),
		Redis: server, Date: time.Now().UTC().Format(time.DateOnly),
		Rounds: b.Rounds, Limit: limitText(b.Limit), Versions: versions(b.Systems), RedisConfig: b.RedisConfig,
		Default: advisedName + " " + b.defaultValue, Advised: advisedName + " " + advisedValue,
	}, err
}

func limitText(l load.Limit) string {
	if l.Requests > 0 {
		return strconv.Itoa(l.Requests) + " requests"
	}
	return l.Duration.Round(time.Millisecond).String()
}

// versions returns the versions of the systems' modules in this binary.
func versions(systems []app.System) []report.Version {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	built := map[string]string{}
	for _, module := range info.Deps {
		built[module.Path] = module.Version
	}
	var list []report.Version
	for _, system := range systems {
		for _, path := range system.Modules {
			if version, ok := built[path]; ok {
				list = append(list, report.Version{System: system.Name, Module: path, Version: version})
			}
		}
	}
	return list
}
