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

// root is the path of the repository's root, relative to this package.
const root = "../.."

// modulePath is the path of the root module. The paths of the nested modules begin with it.
const modulePath = "github.com/coatcheck-go/session"

// source is one Go file. Paths are relative to the root of the repository, and use slashes.
type source struct {
	path   string
	dir    string // "." for the root
	module string // the folder of the module's go.mod; "." for the root module
	test   bool
	text   []byte
	ast    *ast.File
}

// line returns the line number of a node.
func (s *source) line(n ast.Node) int { return fset.Position(n.Pos()).Line }

// lines returns the number of lines that a node covers.
func (s *source) lines(n ast.Node) int {
	return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1
}

var fset = token.NewFileSet()

// tree is the repository, as far as these tests read it.
type tree struct {
	sources  []*source
	packages map[string][]*source // by folder, without tests
	modules  []string             // folders with a go.mod
	pages    []string             // Markdown files
	scripts  []string             // Lua files
}

// skipped names the folders that do not contain source code of this repository: data, and what the
// tools of the clients in other languages install and build.
var skipped = []string{"testdata", "node_modules", "coatcheck-data", "dist", "build", "test-build", "target", "vendor"}

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
		case d.IsDir() && rel != "" && (base[0] == '.' || slices.Contains(skipped, base)):
			return fs.SkipDir
		case base == "go.mod":
			repo.modules = append(repo.modules, path.Dir(rel))
		case path.Ext(base) == ".md":
			repo.pages = append(repo.pages, rel)
		case path.Ext(base) == ".lua":
			repo.scripts = append(repo.scripts, rel)
		case path.Ext(base) == ".go":
			return repo.add(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(repo.sources) < 10 || !slices.Contains(repo.modules, ".") {
		t.Fatalf("found %d Go files and the modules %q: %s is not the root of the repository",
			len(repo.sources), repo.modules, root)
	}
	for _, s := range repo.sources {
		s.module = repo.moduleOf(s.dir)
	}
	return repo
}

// add parses a Go file and adds it to the tree.
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

// moduleOf returns the folder of the module to which a folder belongs.
func (repo *tree) moduleOf(dir string) string {
	best := "."
	for _, m := range repo.modules {
		if within(dir, m) && len(m) > len(best) {
			best = m
		}
	}
	return best
}

// within reports whether dir is folder, or is inside it.
func within(dir, folder string) bool {
	return folder == "." || dir == folder || strings.HasPrefix(dir, folder+"/")
}

// imports returns the import paths of a file. Those of this repository are relative to its root.
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
