package arch_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFuzzTargetsHaveACorpus checks that each fuzz target has seeds. An ordinary test run executes
// the seeds only, so that a target without seeds tests nothing.
func TestFuzzTargetsHaveACorpus(t *testing.T) {
	found := 0
	for _, s := range load(t).sources {
		for _, decl := range s.ast.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !s.test || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			found++
			folder := filepath.Join(root, s.dir, "testdata", "fuzz", f.Name.Name)
			if seeds, err := os.ReadDir(folder); err != nil || len(seeds) < 3 {
				t.Errorf("%s:%d: %s has %d seeds in testdata/fuzz, want at least 3: commit inputs to accept and inputs to refuse",
					s.path, s.line(f), f.Name.Name, len(seeds))
			}
		}
	}
	if found == 0 {
		t.Error("found no fuzz target: this test looks in the wrong place")
	}
}
