package report

import (
	"fmt"
	"io"
	"strings"
)

// Markdown writes the page docs/bench.md.
func (r Report) Markdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("<!-- Written by `go run ./bench -md`. Do not edit. -->\n")
	b.WriteString("\n# Benchmark on Redis\n" +
		"\nTo repeat it, run `go run ./bench`. It takes about 8 minutes at most. " +
		"`go run ./bench -help` lists the options.\n")
	for _, g := range r.grids() {
		fmt.Fprintf(&b, "\n**%s%s**\n\n", strings.ToUpper(g.title[:1]), g.title[1:])
		fmt.Fprintf(&b, "| %s |\n|---|%s\n", strings.Join(g.head, " | "), strings.Repeat("--:|", len(g.head)-1))
		for _, row := range g.rows {
			for _, c := range row {
				fmt.Fprintf(&b, "| %s ", emphasised(c))
			}
			b.WriteString("|\n")
		}
		writeNotes(&b, g.notes)
	}
	b.WriteString("\n**How it was measured**\n")
	writeNotes(&b, r.notes())
	_, err := io.WriteString(w, b.String())
	return err
}

// writeNotes writes a list.
func writeNotes(b *strings.Builder, notes []string) {
	if len(notes) > 0 {
		b.WriteString("\n")
	}
	for _, note := range notes {
		fmt.Fprintf(b, "- %s\n", note)
	}
}

// emphasised returns a cell in Markdown.
func emphasised(c cell) string {
	switch {
	case c.text == "":
		return ""
	case c.mark == ours, c.mark == bad:
		return "**" + c.text + "**"
	case c.mark == limit:
		return "*" + c.text + "*"
	}
	return c.text
}
