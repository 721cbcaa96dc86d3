package report

import "fmt"

// correctness returns the table of lost updates and sign-outs.
func (r Report) correctness() grid {
	g := grid{title: "correctness", head: []string{"system", "lost updates", "back after sign-out"}}
	for _, f := range r.Facts {
		cells := row(markOf(f.System), f.System, "cannot write", "–")
		if f.LostUpdates != nil {
			cells[1].text = fmt.Sprintf("%d of %d", *f.LostUpdates, *f.Updates)
			if *f.LostUpdates != 0 {
				cells[1].mark = bad
			}
		}
		if f.BackAfterSignOut != nil {
			cells[2].text = yesNo(*f.BackAfterSignOut)
			if *f.BackAfterSignOut {
				cells[2].mark = bad
			}
		}
		g.rows = append(g.rows, cells)
	}
	return g
}
