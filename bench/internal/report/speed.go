package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// speed returns the table of one case.
func (r Report) speed(connections int, kind string, results []Result) grid {
	g := grid{
		title: fmt.Sprintf("%s, %d connections", kind, connections),
		head: []string{
			"system", "× limit", "range", "CPU µs", "server µs", "Redis µs", "requests/s", "p50 µs", "p99 µs",
			"commands", "to Redis B", "from Redis B", "request B",
		},
	}
	best, hasLimit := r.limit(connections, kind)
	for _, result := range results {
		name, times, between := result.System, "–", "–"
		if ratio := result.over(best); hasLimit && ratio.Median > 0 {
			times, between = ratio.median(), ratio.between()
		}
		if result.Errors > 0 {
			name += fmt.Sprintf(" (%d errors)", result.Errors)
		}
		g.rows = append(g.rows, row(markOf(result.System), name, times, between,
			digits(result.CPU()), digits(result.ServerCPU), digits(result.RedisCPU),
			thousands(result.RequestsPerSecond), thousands(result.P50), thousands(result.P99),
			commands(result), thousands(result.RedisIn), thousands(result.RedisOut), thousands(result.RequestSize)))
	}
	if own, ok := r.own(connections, kind); ok {
		g.notes = append(g.notes, "coatcheck: "+r.verdict(own)+".")
	}
	return g
}

// verdict compares coatcheck with the limit, with the best other library, and with tokens.
func (r Report) verdict(own Result) string {
	var parts []string
	add := func(other Result, what string) {
		ratio := own.over(other)
		text := fmt.Sprintf("%s × the CPU of %s", ratio.median(), what)
		if ratio.Min < ratio.Max {
			text += " (" + ratio.between() + ")"
		}
		parts = append(parts, text)
	}
	if best, ok := r.limit(own.Connections, own.Case); ok {
		add(best, best.System)
	}
	if peer, ok := r.bestPeer(own.Connections, own.Case); ok {
		add(peer, "the best other library, "+peer.System)
	}
	for _, token := range r.tokens(own.Connections, own.Case) {
		add(token, token.System)
	}
	return strings.Join(parts, ", ")
}

// commands returns the number of Redis commands per request, and their names.
func commands(r Result) string {
	count := strconv.FormatFloat(math.Round(r.Commands*10)/10, 'f', -1, 64)
	if len(r.CommandNames) == 0 {
		return count
	}
	return count + ": " + strings.Join(r.CommandNames, " ")
}
