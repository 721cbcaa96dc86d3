package arch_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files in api/")

// golden maps the folder of a package to the golden file that lists its exported API. The files
// make each change of the API visible in a review.
var golden = map[string]string{
	".":                    "api/session.txt",
	"adapters/echo":        "api/echosession.txt",
	"adapters/echov4":      "api/echosession-v4.txt",
	"adapters/fiber":       "api/fibersession.txt",
	"adapters/gin":         "api/ginsession.txt",
	"adapters/otel":        "api/sessionotel.txt",
	"adapters/prometheus":  "api/sessionprom.txt",
	"driver":               "api/driver.txt",
	"filestore":            "api/filestore.txt",
	"memstore":             "api/memstore.txt",
	"migrate":              "api/migrate.txt",
	"openstore":            "api/openstore.txt",
	"policy":               "api/policy.txt",
	"redisstore":           "api/redisstore.txt",
	"redisstore/redistest": "api/redistest.txt",
	"sessiontest":          "api/sessiontest.txt",
	"sqlstore":             "api/sqlstore.txt",
	"storetest":            "api/storetest.txt",
}

// TestAPI compares the exported API of each public package with its golden file.
func TestAPI(t *testing.T) {
	repo := load(t)
	for dir, file := range golden {
		got := strings.Join(exported(repo.packages[dir]), "\n") + "\n"
		name := filepath.Join(root, file)
		if *update {
			if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := compare(string(want), got); diff != "" {
			t.Errorf("the exported API of package %q differs from %s:\n%s\n"+
				"If the change is intended, run\n\n\tgo test ./internal/arch -run TestAPI -update\n\n"+
				"and commit the file. After v1, never remove a line.", dir, file, diff)
		}
	}
}

// TestExportedSurfaceIsSmall limits the number of exported names of package session, since a small
// package is easy to learn. Admired small packages export about 15 types and 20 functions. Two more
// types are for metrics and traces: Observer is a field's type in Config, and in a package of its
// nobody would find it. One more is Change, which Watch yields. One more is Field: a list of names
// could not say whether a field of the user is a counter, which adds, or something else, which
// replaces.
func TestExportedSurfaceIsSmall(t *testing.T) {
	types, functions := map[string]bool{}, 0
	for _, line := range exported(load(t).packages["."]) {
		switch {
		case strings.HasPrefix(line, "type "):
			types[strings.Fields(line)[1]] = true
		case strings.HasPrefix(line, "func ") && !strings.HasPrefix(line, "func ("):
			functions++
		}
	}
	t.Logf("package session exports %d types and %d functions", len(types), functions)
	if len(types) == 0 || len(types) > 19 || functions == 0 || functions > 10 {
		t.Errorf("package session exports %d types and %d functions: the limits are 19 and 10. Can a method, a field of Config "+
			"or another package do it instead?", len(types), functions)
	}
}

// exported returns a sorted list of the exported names of a package, one line each.
func exported(files []*source) (lines []string) {
	for _, s := range files {
		for _, decl := range s.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) {
					lines = append(lines, render(&ast.FuncDecl{Recv: d.Recv, Name: d.Name, Type: d.Type}))
				}
			case *ast.GenDecl:
				lines = append(lines, declared(d)...)
			}
		}
	}
	slices.SortFunc(lines, func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
	})
	return lines
}

// rank returns the position of a line's kind in the golden file.
func rank(line string) int {
	kinds := []string{"const ", "var ", "type ", "func (", "func "}
	return slices.IndexFunc(kinds, func(kind string) bool { return strings.HasPrefix(line, kind) })
}

func declared(d *ast.GenDecl) (lines []string) {
	var implied *ast.ValueSpec // the type and values that later constants of the group repeat
	for i, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				lines = append(lines, typeLines(s)...)
			}
		case *ast.ValueSpec:
			if s.Type != nil || s.Values != nil {
				implied = s
			}
			for j, name := range s.Names {
				if name.IsExported() {
					lines = append(lines, valueLine(d.Tok, name, implied, i, j))
				}
			}
		}
	}
	return lines
}

// valueLine renders a constant with its type and value, and a variable with its type if it has one.
// place is the position in the group: the value of iota.
func valueLine(tok token.Token, name *ast.Ident, s *ast.ValueSpec, place, at int) string {
	line := tok.String() + " " + name.Name
	if s == nil {
		return line
	}
	if s.Type != nil {
		line += " " + render(s.Type)
	}
	if tok == token.CONST && at < len(s.Values) {
		value := render(s.Values[at])
		line += " = " + regexp.MustCompile(`\biota\b`).ReplaceAllString(value, fmt.Sprint(place))
	}
	return line
}

func typeLines(s *ast.TypeSpec) []string {
	head := "type " + s.Name.Name
	if s.TypeParams != nil {
		var params []string
		for _, f := range s.TypeParams.List {
			for _, n := range f.Names {
				params = append(params, n.Name+" "+render(f.Type))
			}
		}
		head += "[" + strings.Join(params, ", ") + "]"
	}
	switch x := s.Type.(type) {
	case *ast.StructType:
		return append([]string{head + " struct"}, fieldLines(head+" struct, ", x.Fields)...)
	case *ast.InterfaceType:
		return append([]string{head + " interface"}, fieldLines(head+" interface, ", x.Methods)...)
	}
	if s.Assign.IsValid() {
		head += " ="
	}
	return []string{head + " " + render(s.Type)}
}

// fieldLines renders the fields of a struct or the methods of an interface.
func fieldLines(head string, list *ast.FieldList) (lines []string) {
	hidden := false
	for _, f := range list.List {
		if len(f.Names) == 0 {
			lines = append(lines, head+"embeds "+render(f.Type))
		}
		for _, n := range f.Names {
			typ := render(f.Type)
			if _, method := f.Type.(*ast.FuncType); method && strings.Contains(head, "interface,") {
				typ = strings.TrimPrefix(typ, "func")
			} else {
				typ = " " + typ
			}
			if n.IsExported() {
				lines = append(lines, head+n.Name+typ)
			}
			hidden = hidden || !n.IsExported()
		}
	}
	if hidden {
		lines = append(lines, head+"more that is not exported")
	}
	return lines
}

// render prints a node on one line.
func render(n ast.Node) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, fset, n); err != nil {
		panic(err)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// compare returns the lines that only one of the two texts has.
func compare(want, got string) string {
	var diff []string
	before, after := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range before {
		if !slices.Contains(after, line) {
			diff = append(diff, "- "+line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			diff = append(diff, "+ "+line)
		}
	}
	if diff == nil && want != got {
		return "the lines are the same, but their order differs"
	}
	return strings.Join(diff, "\n")
}
