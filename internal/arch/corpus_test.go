package arch_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCorpora: a fuzz target is a plain test of its corpus, for all who never fuzz. An empty one tests nothing.
func TestCorpora(t *testing.T) {
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
				t.Errorf("%s:%d: %s has %d files in its testdata/fuzz: commit some that it must accept, and some that it must refuse",
					s.path, s.line(f), f.Name.Name, len(seeds))
			}
		}
	}
	if found == 0 {
		t.Error("no fuzz targets found")
	}
}
