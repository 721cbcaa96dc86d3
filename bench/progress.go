package main

import (
	"fmt"
	"io"
	"time"

	"github.com/coatcheck-go/session/bench/internal/measure"
)

// progress prints the step that runs and the time that is left. On a terminal it rewrites one line.
type progress struct {
	w        io.Writer
	terminal bool
	start    time.Time
}

// step prints the beginning of s.
func (p *progress) step(s measure.Step) {
	if p.start.IsZero() {
		p.start = time.Now()
	}
	line := fmt.Sprintf("[%d/%d] %s", s.Number, s.Of, s.What)
	if !p.terminal {
		_, _ = fmt.Fprintln(p.w, line)
		return
	}
	if done := s.Number - 1; done > 0 {
		since := time.Since(p.start)
		left := since / time.Duration(done) * time.Duration(s.Of-done)
		if s.Within > 0 {
			left = max(0, min(left, s.Within-since))
		}
		line += fmt.Sprintf(" (about %s left)", left.Round(time.Second))
	}
	_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", line)
}

// end clears the line.
func (p *progress) end() {
	if p.terminal {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}
