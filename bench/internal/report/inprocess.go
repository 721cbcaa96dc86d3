package report

import "github.com/coatcheck-go/session/bench/internal/app"

// InProcess is the cost of a read in the process, without a network, per request and in each round.
type InProcess struct {
	System                     string
	Micros, Allocations, Bytes []float64
}

// inProcess returns the table of reads in the process.
func (r Report) inProcess() grid {
	g := grid{
		title: "read in the process, without a network",
		head:  []string{"system", "CPU µs", "× coatcheck", "range", "allocations", "bytes"},
		notes: []string{
			"The handler and the middleware, without HTTP and without Redis: coatcheck reads from its near cache. " +
				"All have " + app.Long.Name + ".",
			"A JWT is verified without a server. But it cannot be changed: a write needs a new token, " +
				"and two writes at the same time make two tokens. It cannot be revoked before it expires: " +
				"a list of revoked tokens would be a session store. And each request carries all of its data.",
		},
	}
	var own InProcess
	for _, p := range r.InProcess {
		if p.System == app.Coatcheck {
			own = p
		}
	}
	for _, p := range r.InProcess {
		ratio := ratios(p.Micros, own.Micros)
		g.rows = append(g.rows, row(markOf(p.System), p.System, fixed(spread(p.Micros).Median, 2),
			ratio.median(), ratio.between(), thousands(spread(p.Allocations).Median), thousands(spread(p.Bytes).Median)))
	}
	return g
}
