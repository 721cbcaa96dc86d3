package measure

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
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
	step     int
	samples  map[group][]report.Sample
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
	server, err := redisd.Start(ctx)
	if err != nil {
		return report.Report{}, err
	}
	defer server.Stop()
	observer, err := redisd.Observe(server.Addr)
	if err != nil {
		return report.Report{}, err
	}
	defer observer.Close()

	b := &bench{Config: c, redis: server.Addr, observer: observer, samples: map[group][]report.Sample{}}
	result, err := b.run(ctx)
	if ctx.Err() != nil { // it caused any other error
		err = context.Cause(ctx)
	}
	return result, err
}

// run tests the systems, measures them in rounds, and collects the medians.
func (b *bench) run(ctx context.Context) (report.Report, error) {
	var r report.Report
	for _, setting := range b.RedisConfig {
		var name, value string
		if _, err := fmt.Sscanf(setting, "%s %s", &name, &value); err != nil {
			return r, fmt.Errorf("the Redis setting %q is not NAME VALUE", setting)
		}
		if err := b.observer.Configure(ctx, name, value); err != nil {
			return r, err
		}
	}
	var err error
	if r.Setting, err = b.setting(ctx); err != nil {
		return r, err
	}
	if err := b.facts(ctx, &r); err != nil {
		return r, err
	}
	for round := range b.Rounds {
		if err := b.round(ctx, round); err != nil {
			return r, err
		}
	}
	for _, connections := range b.Connections {
		for _, kind := range b.Cases {
			for _, system := range b.Systems {
				samples := b.samples[group{connections, kind, system.Name}]
				r.Results = append(r.Results, report.Median(system.Name, kind, connections, samples))
			}
		}
	}
	return r, nil
}

// round measures each system once in each case.
func (b *bench) round(ctx context.Context, round int) error {
	for _, connections := range b.Connections {
		for turn, kind := range b.Cases {
			for i := range b.Systems {
				system := b.Systems[(i+turn+round)%len(b.Systems)]
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
		steps := len(b.Systems) * (1 + b.Rounds*len(b.Connections)*len(b.Cases))
		b.Progress(Step{Number: b.step, Of: steps, What: fmt.Sprintf(format, args...)})
	}
}

// setting describes the environment and the options of the run.
func (b *bench) setting(ctx context.Context) (report.Setting, error) {
	version, err := b.observer.Version(ctx)
	return report.Setting{
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Redis: version,
		Rounds: b.Rounds, Limit: limitText(b.Limit), Versions: versions(b.Systems), RedisConfig: b.RedisConfig,
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
