package matrix_test

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table in docs/frameworks.md")

// page has the table, between these two lines.
const (
	page     = "../../docs/frameworks.md"
	tableTop = "<!-- The test in adapters/matrix writes this table. -->\n"
	tableEnd = "<!-- End of the table. -->\n"
)

// TestFrameworksAndStoresBehaveAlike runs each row in each framework on each store. The outcome is
// the same on each store. The outcomes are the table of docs/frameworks.md, which has the reason
// for each difference between frameworks.
func TestFrameworksAndStoresBehaveAlike(t *testing.T) {
	outcomes := table{}
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			store := s.open(t)
			for _, f := range frameworks {
				for _, r := range rows {
					t.Run(f.name+"/"+r.name, func(t *testing.T) {
						c := newCell(t, f, store, r)
						r.perform(c)
						at := cellName{r.name, f.name}
						if before := outcomes[at]; before != nil && strings.Join(before, ", ") != strings.Join(c.facts, ", ") {
							t.Errorf("%q on this store, %q on the one before", c.facts, before)
						}
						outcomes[at] = c.facts
					})
				}
			}
		})
	}
	if t.Failed() || len(outcomes) < len(rows)*len(frameworks) { // -run has left out some
		return
	}
	got, wrong := outcomes.markdown()
	for _, w := range wrong {
		t.Error(w)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableTop)
	want, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		t.Fatalf("%s lacks the lines around the table", page)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+tableTop+got+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("the outcomes differ from the table in %s. If that is intended, run\n\n"+
			"\tgo test ./adapters/matrix -update\n\nand commit the page. Now:\n%s", page, got)
	}
}
