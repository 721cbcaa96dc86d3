package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the repository's root as the tests see it.
const root = "../.."

// modulePath is the root module's. The nested modules' paths begin with it.
const modulePath = "github.com/coatcheck-go/session"

// source is one Go file. Paths are relative to the root of the repository, with slashes.
type source struct {
	path   string
	dir    string // "." for the root
	module string // the folder of its go.mod: "." for the root module
	test   bool
	text   []byte
	ast    *ast.File
}

// line returns where a node is, for messages.
func (s *source) line(n ast.Node) int { return fset.Position(n.Pos()).Line }

// lines returns how many lines a node has.
func (s *source) lines(n ast.Node) int {
	return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1
}

var fset = token.NewFileSet()

// tree is the repository.
type tree struct {
	sources  []*source
	packages map[string][]*source // by folder; without tests
	modules  []string             // folders with a go.mod
	pages    []string             // Markdown
}

// load reads the repository.
func load(t *testing.T) *tree {
	t.Helper()
	repo := &tree{packages: map[string][]*source{}}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(name, root), string(filepath.Separator)))
		base := d.Name()
		switch {
		case d.IsDir() && rel != "" && (base[0] == '.' || base == "testdata" || base == "node_modules" || base == "coatcheck-data"):
			return fs.SkipDir
		case base == "go.mod":
			repo.modules = append(repo.modules, path.Dir(rel))
		case path.Ext(base) == ".md":
			repo.pages = append(repo.pages, rel)
		case path.Ext(base) == ".go":
			return repo.add(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(repo.sources) < 10 || !slices.Contains(repo.modules, ".") {
		t.Fatalf("found %d Go files and the modules %q: this is not the repository", len(repo.sources), repo.modules)
	}
	for _, s := range repo.sources {
		s.module = repo.moduleOf(s.dir)
	}
	return repo
}

func (repo *tree) add(rel string) error {
	text, err := os.ReadFile(filepath.Join(root, rel))
	if err != nil {
		return err
	}
	f, err := parser.ParseFile(fset, rel, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	s := &source{path: rel, dir: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"), text: text, ast: f}
	repo.sources = append(repo.sources, s)
	if !s.test {
		repo.packages[s.dir] = append(repo.packages[s.dir], s)
	}
	return nil
}

// moduleOf returns the folder of the module that a folder belongs to.
func (repo *tree) moduleOf(dir string) string {
	best := "."
	for _, m := range repo.modules {
		if within(dir, m) && len(m) > len(best) {
			best = m
		}
	}
	return best
}

// within reports whether dir is folder or lies in it.
func within(dir, folder string) bool {
	return folder == "." || dir == folder || strings.HasPrefix(dir, folder+"/")
}

// imports returns what a file imports; what is in the repository as a path relative to its root.
func (s *source) imports() (names []string) {
	for _, i := range s.ast.Imports {
		name := strings.Trim(i.Path.Value, `"`)
		if name == modulePath {
			name = "."
		}
		names = append(names, strings.TrimPrefix(name, modulePath+"/"))
	}
	return names
}
