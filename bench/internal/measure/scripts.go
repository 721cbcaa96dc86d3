package measure

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/redisd"
	"github.com/coatcheck-go/session/bench/internal/report"
)

// scriptCase is a way to add one to a counter, or a part of it.
type scriptCase struct {
	what    string
	command string // as INFO commandstats names it

	open opener
}

// opener prepares a call. The first call, which may load a script, is not counted.
type opener func(ctx context.Context) (call func(context.Context) error, closeCase func(), err error)

// scriptCases returns the cases. Those of coatcheck call the script as its store does, because the
// store makes the calls.
func (b *bench) scriptCases() []scriptCase {
	cases := []scriptCase{
		{report.HIncrBy, "hincrby", b.writer(app.OneCommand, app.Short, 0)},
		{"a script that returns 1", "evalsha", b.script("return 1")},
		{"a script with one HINCRBY", "evalsha", b.script("return redis.call('HINCRBY', KEYS[1], 'visits', 1)")},
	}
	if slices.ContainsFunc(b.Systems, func(s app.System) bool { return s.Name == app.Coatcheck }) {
		cases = append(cases,
			scriptCase{report.ApplyShort, "evalsha", b.writer(app.Coatcheck, app.Short, 0)},
			scriptCase{report.ApplyShort + ", signed in", "evalsha", b.writer(app.Coatcheck, app.Short, 1)},
			scriptCase{"apply.lua, " + app.Long.Name, "evalsha", b.writer(app.Coatcheck, app.Long, 0)},
			scriptCase{"apply.lua, " + app.Long.Name + ", signed in", "evalsha", b.writer(app.Coatcheck, app.Long, 1)},
		)
	}
	return cases
}

// writer returns the opener of a system that writes to a session.
func (b *bench) writer(system string, data app.Data, users int) opener {
	return func(ctx context.Context) (func(context.Context) error, func(), error) {
		v, err := b.newVisitor(ctx, system, app.FillPath(data, users), http.MethodPost, app.PathWrite)
		if err != nil {
			return nil, nil, err
		}
		return func(context.Context) error { return v.send() }, v.app.Close, nil
	}
}

// script returns the opener of a Lua script. Its key is that of a small hash.
func (b *bench) script(source string) opener {
	return func(context.Context) (func(context.Context) error, func(), error) {
		return b.observer.Script(source, "session:script"), func() {}, nil
	}
}

// scripts measures how long the server runs the commands and scripts of a write, as the server
// counts it, with both settings. The cases take turns.
func (b *bench) scripts(ctx context.Context, r *report.Report) error {
	cases := b.scriptCases()
	for _, c := range cases {
		r.Scripts = append(r.Scripts, report.Script{What: c.what})
	}
	for round := range b.Rounds {
		b.progress("round %d of %d: scripts", round+1, b.Rounds)
		for i := range cases {
			i = (i + round) % len(cases)
			for _, advised := range []bool{false, true} {
				micros, err := b.timeInServer(ctx, cases[i], advised)
				if err != nil {
					return fmt.Errorf("%s: %w", cases[i].what, err)
				}
				if advised {
					r.Scripts[i].Advised = append(r.Scripts[i].Advised, micros)
				} else {
					r.Scripts[i].Default = append(r.Scripts[i].Default, micros)
				}
			}
		}
	}
	return b.use(ctx, false)
}

// timeInServer returns the µs of one call.
func (b *bench) timeInServer(ctx context.Context, c scriptCase, advised bool) (float64, error) {
	if err := b.observer.Empty(ctx); err != nil {
		return 0, err
	}
	if err := b.use(ctx, advised); err != nil {
		return 0, err
	}
	call, closeCase, err := c.open(ctx)
	if err != nil {
		return 0, err
	}
	defer closeCase()
	if err := call(ctx); err != nil {
		return 0, err
	}
	const batches = 10
	var micros []float64
	for range batches {
		us, err := b.batch(ctx, call, c.command, max(1, b.ScriptCalls/batches))
		if err != nil {
			return 0, err
		}
		micros = append(micros, us)
	}
	return report.Middle(micros), nil
}

// batch makes n calls, and returns the µs of one. The median of several short batches drops those
// in which another process interrupted the server: the server counts elapsed time.
func (b *bench) batch(ctx context.Context, call func(context.Context) error, command string, n int) (float64, error) {
	before, err := b.observer.Calls(ctx, command)
	if err != nil {
		return 0, err
	}
	for range n {
		if err := call(ctx); err != nil {
			return 0, err
		}
	}
	after, err := b.observer.Calls(ctx, command)
	return perCall(after.Sub(before), n, err)
}

// perCall returns the µs of one call. It checks that each request made one call. A store may add a
// few of its own.
func perCall(calls redisd.Calls, requests int, err error) (float64, error) {
	if n := int64(requests); err == nil && (calls.N < n || calls.N > n+n/50+2) {
		err = fmt.Errorf("%d requests made %d calls", requests, calls.N)
	}
	return report.Micros(calls.Time) / float64(calls.N), err
}
