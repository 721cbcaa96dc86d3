package matrix_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestFrameworksAndStoresBehaveAlike runs each row in each framework on each store. The outcomes
// are the table of docs/frameworks.md.
func TestFrameworksAndStoresBehaveAlike(t *testing.T) {
	outcomes := map[string]map[string]string{} // by row and framework
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			store := s.open(t)
			for _, f := range frameworks {
				for _, r := range rows {
					t.Run(f.name+"/"+r.name, func(t *testing.T) {
						got := outcome(t, f, newCell(t, f, store, r), r)
						of := outcomes[r.name]
						if of == nil {
							of = map[string]string{}
							outcomes[r.name] = of
						}
						if before, ok := of[f.name]; ok && before != got {
							t.Errorf("on %s: %s\nbefore: %s", s.name, got, before)
						}
						of[f.name] = got
					})
				}
			}
		})
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%s\n", r.name)
		for _, f := range frameworks {
			fmt.Fprintf(&b, "    %-9s %s\n", f.name, outcomes[r.name][f.name])
		}
	}
	t.Log("\n" + b.String())
}

// outcome runs a row and returns what came of it.
func outcome(_ *testing.T, _ framework, c *cell, r *row) string {
	if r.visitor == nil {
		r.visitor = (*cell).known
	}
	r.visitor(c)
	if r.run == nil {
		r.run = func(c *cell) { c.send(c.request("GET", "/", nil)) }
	}
	r.run(c)
	c.noteStored()
	return strings.Join(c.facts, ", ")
}
