package report

import (
	"math"
	"strconv"

	"github.com/coatcheck-go/session/bench/internal/app"
)

// grid is a table, for the terminal and for Markdown.
type grid struct {
	title string
	head  []string
	rows  [][]cell
	notes []string // below the table
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
	bad        // a defect, or a target that is missed
)

// grids returns all tables of the report. Each title names the server.
func (r Report) grids() []grid {
	var all []grid
	r.groups(func(connections int, kind string, results []Result) {
		all = append(all, r.speed(connections, kind, results))
		if kind == SignIn {
			all = append(all, r.signIn(results))
		}
	})
	all = append(all, r.scripts(), r.inProcess(), r.memory(), r.correctness(), r.targets())
	filled := all[:0]
	for _, g := range all {
		if len(g.rows) > 0 {
			g.title += ", " + r.Setting.Redis
			filled = append(filled, g)
		}
	}
	return filled
}

// row returns the cells of a row, all highlighted in the same way.
func row(as mark, texts ...string) []cell {
	cells := make([]cell, len(texts))
	for i, text := range texts {
		cells[i] = cell{text, as}
	}
	return cells
}

// markOf returns how to highlight the row of a system.
func markOf(system string) mark {
	switch app.RoleOf(system) {
	case app.Own:
		return ours
	case app.Limit:
		return limit
	}
	return plain
}

// yesNo returns the text for a fact.
func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
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
