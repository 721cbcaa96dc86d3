package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// styles has the escape sequence of each mark, for terminals.
var styles = map[mark]string{ours: "\x1b[1;32m", limit: "\x1b[2m", bad: "\x1b[31m"}

const (
	bold  = "\x1b[1m"
	reset = "\x1b[0m"
)

// Text writes the report as text, with colours if colour is set.
func (r Report) Text(w io.Writer, colour bool) error {
	var b strings.Builder
	for _, g := range r.grids() {
		writeGrid(&b, g, colour)
	}
	for _, note := range r.notes() {
		fmt.Fprintln(&b, note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeGrid writes one table with aligned columns.
func writeGrid(b *strings.Builder, g grid, colour bool) {
	widths := make([]int, len(g.head))
	for i, text := range g.head {
		widths[i] = utf8.RuneCountInString(text)
		for _, row := range g.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	styled := func(style, text string) string {
		if !colour || style == "" {
			return text
		}
		return style + text + reset
	}
	fmt.Fprintf(b, "%s\n", styled(bold, g.title))
	for i, text := range g.head {
		b.WriteString("  " + styled(styles[limit], pad(text, widths[i], i > 0)))
	}
	b.WriteString("\n")
	for _, row := range g.rows {
		for i, c := range row {
			b.WriteString("  " + styled(styles[c.mark], pad(c.text, widths[i], i > 0)))
		}
		b.WriteString("\n")
	}
	for _, note := range g.notes {
		b.WriteString("  " + note + "\n")
	}
	b.WriteString("\n")
}

// pad fills text with spaces up to width. Figures are aligned on the right.
func pad(text string, width int, left bool) string {
	space := strings.Repeat(" ", width-utf8.RuneCountInString(text))
	if left {
		return space + text
	}
	return text + space
}
