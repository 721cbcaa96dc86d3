package measure

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"time"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/child"
	"github.com/coatcheck-go/session/bench/internal/report"
)

// inProcess measures reads in this process, without a network. It measures the systems that do not
// ask Redis when they read: the handler alone, coatcheck from its near cache, and the tokens.
func (b *bench) inProcess(ctx context.Context, r *report.Report) error {
	var visitors []*visitor
	for _, system := range b.systemsIn(report.Read) {
		if system.Role == app.Peer || system.Name == app.OneCommand {
			continue
		}
		v, err := b.newVisitor(ctx, system.Name, app.FillPath(app.Long, 0), http.MethodGet, app.PathRead)
		if err != nil {
			return fmt.Errorf("%s in this process: %w", system.Name, err)
		}
		defer v.app.Close()
		visitors = append(visitors, v)
		r.InProcess = append(r.InProcess, report.InProcess{System: system.Name})
	}
	for round := range b.Rounds {
		b.progress("round %d of %d: reads in this process", round+1, b.Rounds)
		for i := range visitors {
			i = (i + round) % len(visitors)
			if err := visitors[i].sample(ctx, b.inProcessTime(), &r.InProcess[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// inProcessTime is how long each system is measured per round. These figures vary less than those
// over a network.
func (b *bench) inProcessTime() time.Duration {
	if b.Limit.Requests > 0 {
		return time.Millisecond
	}
	return b.Limit.Duration / 5
}

// sample sends the request until d is over, and adds the CPU time and the allocations per request.
func (v *visitor) sample(ctx context.Context, d time.Duration, to *report.InProcess) error {
	const batch = 100 // requests between two looks at the clock
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	used, err := child.CPUTime()
	if err != nil {
		return err
	}
	n := 0
	for start := time.Now(); time.Since(start) < d; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for range batch {
			if err := v.send(); err != nil {
				return err
			}
		}
		n += batch
	}
	now, err := child.CPUTime()
	runtime.ReadMemStats(&after)
	to.Micros = append(to.Micros, report.Micros(now-used)/float64(n))
	to.Allocations = append(to.Allocations, float64(after.Mallocs-before.Mallocs)/float64(n))
	to.Bytes = append(to.Bytes, float64(after.TotalAlloc-before.TotalAlloc)/float64(n))
	return err
}
