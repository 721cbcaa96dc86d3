package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/coatcheck-go/session/bench/internal/app"
)

// grid is a table, for the terminal and for Markdown.
type grid struct {
	title string
	head  []string
	rows  [][]cell
}

// cell is a text and how to highlight it.
type cell struct {
	text string
	mark mark
}

// mark says how to highlight a cell.
type mark int

const (
	plain mark = iota
	ours       // the library of this repository
	limit      // a row that is not a session library
	bad        // a defect
)

// grids returns all tables of the report.
func (r Report) grids() []grid {
	var all []grid
	r.groups(func(connections int, kind string, results []Result) {
		all = append(all, r.speed(connections, kind, results))
	})
	if len(r.Facts) > 0 {
		all = append(all, r.correctness())
	}
	return all
}

// speed returns the table of one case.
func (r Report) speed(connections int, kind string, results []Result) grid {
	g := grid{
		title: fmt.Sprintf("%s, %d connections", kind, connections),
		head: []string{
			"system", "server µs", "Redis µs", "CPU µs", "× limit", "requests/s", "p50 µs", "p99 µs",
			"commands", "to Redis B", "from Redis B",
		},
	}
	best, hasLimit := r.limit(connections, kind)
	for _, result := range results {
		times := "–"
		if hasLimit && best.CPU() > 0 {
			times = fmt.Sprintf("%.2f", result.CPU()/best.CPU())
		}
		row := []cell{{text: result.System}}
		for _, text := range []string{
			digits(result.ServerCPU), digits(result.RedisCPU), digits(result.CPU()), times,
			thousands(result.RequestsPerSecond), thousands(result.P50), thousands(result.P99),
			commands(result), thousands(result.RedisIn), thousands(result.RedisOut),
		} {
			row = append(row, cell{text: text})
		}
		if result.Errors > 0 {
			row[0].text += fmt.Sprintf(" (%d errors)", result.Errors)
		}
		g.rows = append(g.rows, marked(row, result.System))
	}
	return g
}

// correctness returns the table of lost updates, sign-outs and memory.
func (r Report) correctness() grid {
	g := grid{
		title: "correctness and memory",
		head:  []string{"system", "lost updates", "back after sign-out", "Redis B per session"},
	}
	for _, f := range r.Facts {
		if f == (Facts{System: f.System}) {
			continue // the system was not tested
		}
		row := marked([]cell{{text: f.System}, {text: "–"}, {text: "–"}, {text: "–"}}, f.System)
		if f.LostUpdates != nil {
			row[1].text = fmt.Sprintf("%d of %d", *f.LostUpdates, *f.Updates)
			if *f.LostUpdates != 0 {
				row[1].mark = bad
			}
		}
		if f.BackAfterSignOut != nil {
			row[2].text = "no"
			if *f.BackAfterSignOut {
				row[2] = cell{"yes", bad}
			}
		}
		if f.BytesPerSession != nil {
			row[3].text = thousands(*f.BytesPerSession)
		}
		g.rows = append(g.rows, row)
	}
	if r.JSONSize > 0 {
		size := thousands(r.JSONSize)
		g.rows = append(g.rows, []cell{{"one JSON string", limit}, {"", limit}, {"", limit}, {size, limit}})
	}
	return g
}

// marked highlights the row of a system.
func marked(row []cell, system string) []cell {
	as := plain
	switch system {
	case app.Coatcheck:
		as = ours
	case app.Bare, app.OneCommand:
		as = limit
	}
	for i := range row {
		row[i].mark = as
	}
	return row
}

// notes returns the explanations below the tables.
func (r Report) notes() []string {
	s := r.Setting
	notes := []string{
		"CPU is the processor time that one request takes in the server's process and in Redis, " +
			"as the operating system counts it.",
		"bare is the handler without a session, one-command the handler with a single Redis command. " +
			"They are the limits.",
		"× limit compares a read with bare, a write or a sign-in with one-command.",
		"A sign-in is that of a visitor without a session. " +
			"The other libraries store the user's id in a new session. " +
			"coatcheck also adds the session to the user's list and checks that the user was not revoked meanwhile. " +
			"It would also enforce a limit.",
		fmt.Sprintf("%s on %s, %d cores shared by client, server and Redis %s; %s.",
			s.Go, s.Platform, s.Cores, s.Redis, s.rounds()),
	}
	if len(s.RedisConfig) > 0 {
		notes = append(notes, "Redis settings: "+strings.Join(s.RedisConfig, ", ")+".")
	}
	if versions := s.versions(); versions != "" {
		notes = append(notes, "Versions: "+versions+".")
	}
	return append(notes, r.verdicts()...)
}

// rounds describes the rounds of the run.
func (s Setting) rounds() string {
	if s.Rounds == 1 {
		return "one round of " + s.Limit
	}
	return fmt.Sprintf("medians of %d rounds of %s", s.Rounds, s.Limit)
}

// verdicts compares coatcheck with the limits and with the best other library.
func (r Report) verdicts() []string {
	var verdicts []string
	r.groups(func(connections int, kind string, _ []Result) {
		own, ok := r.find(connections, kind, app.Coatcheck)
		if !ok {
			return
		}
		verdicts = append(verdicts, fmt.Sprintf("coatcheck, %s, %d connections: %s.", kind, connections, r.ratios(own)))
	})
	return verdicts
}

// ratios returns the verdict of one case.
func (r Report) ratios(own Result) string {
	var parts []string
	if best, ok := r.limit(own.Connections, own.Case); ok {
		parts = append(parts, fmt.Sprintf("%.2f × the CPU of %s", own.CPU()/best.CPU(), best.System))
	}
	if peer, ok := r.bestPeer(own.Connections, own.Case); ok {
		ratio := own.CPU() / peer.CPU()
		parts = append(parts, fmt.Sprintf("%.2f × the CPU of the best other library, %s", ratio, peer.System))
	}
	return strings.Join(parts, ", ")
}

// versions lists each module once, with its version.
func (s Setting) versions() string {
	var list []string
	for _, v := range s.Versions {
		if text := v.Module + " " + v.Version; !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return strings.Join(list, ", ")
}

// commands returns the number of Redis commands per request, and their names.
func commands(r Result) string {
	count := strconv.FormatFloat(math.Round(r.Commands*10)/10, 'f', -1, 64)
	if len(r.CommandNames) == 0 {
		return count
	}
	return count + ": " + strings.Join(r.CommandNames, " ")
}

// digits formats a figure with the digits that are not noise.
func digits(f float64) string {
	if f >= 100 {
		return thousands(f)
	}
	return strconv.FormatFloat(f, 'f', 1, 64)
}

// thousands groups the digits of f, without decimals.
func thousands(f float64) string {
	text := strconv.FormatFloat(math.Round(f), 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
