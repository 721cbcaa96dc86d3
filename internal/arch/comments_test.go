package arch_test

import (
	"go/ast"
	"go/token"
	"regexp"
	"testing"
)

// TestEachPackageHasOneComment checks that exactly one file of a package has a package comment.
func TestEachPackageHasOneComment(t *testing.T) {
	for dir, files := range load(t).packages {
		var with []string
		for _, s := range files {
			if s.ast.Doc != nil {
				with = append(with, s.path)
			}
		}
		if len(with) != 1 {
			t.Errorf("package %q has %d package comments, in %q: it must have one, in the file to read first",
				dir, len(with), with)
		}
	}
}

// TestExportedNamesHaveDocComments checks all files except tests.
func TestExportedNamesHaveDocComments(t *testing.T) {
	for _, s := range load(t).sources {
		if s.test {
			continue
		}
		for _, decl := range s.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) && !wellKnown[d.Name.Name] {
					t.Errorf("%s:%d: %s has no doc comment: say what it promises", s.path, s.line(d), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if name := undocumented(d, spec); name != "" {
						t.Errorf("%s:%d: %s has no doc comment: say what it promises", s.path, s.line(spec), name)
					}
				}
			}
		}
	}
}

// wellKnown are methods whose meaning the standard library documents.
var wellKnown = map[string]bool{"Error": true, "Unwrap": true}

// undocumented returns the first exported name in spec that has no comment, or "". The comment of a
// group of constants or variables covers all its names.
func undocumented(d *ast.GenDecl, spec ast.Spec) string {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return ""
		}
		if s.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
			return s.Name.Name
		}
		if i, ok := s.Type.(*ast.InterfaceType); ok {
			for _, m := range i.Methods.List {
				if len(m.Names) > 0 && m.Names[0].IsExported() && m.Doc == nil && m.Comment == nil {
					return s.Name.Name + "." + m.Names[0].Name
				}
			}
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
				return name.Name
			}
		}
	}
	return ""
}

// exportedReceiver reports whether d is a plain function, or a method of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	name := receiver(d)
	return token.IsExported(name)
}

// receiver returns the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	x := d.Recv.List[0].Type
	for {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.Ident:
			return y.Name
		default:
			return ""
		}
	}
}

var skipReason = regexp.MustCompile(`// skip: \S+`)

// TestSkipsHaveAReason checks that no test skips itself without a stated reason. A test must not
// skip because a tool is missing: then nobody would run it. It must fail, and ./test installs the
// tool.
func TestSkipsHaveAReason(t *testing.T) {
	for _, s := range load(t).sources {
		ast.Inspect(s.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			skips := ok && (f.Sel.Name == "Skip" || f.Sel.Name == "Skipf" || f.Sel.Name == "SkipNow")
			if skips && !s.commented(call, skipReason) {
				t.Errorf("%s:%d: the test skips without a reason: fail instead, or add a comment %q to the line",
					s.path, s.line(call), "skip: <reason>")
			}
			return true
		})
	}
}

// commented reports whether a comment on the line of n matches expr.
func (s *source) commented(n ast.Node, expr *regexp.Regexp) bool {
	for _, group := range s.ast.Comments {
		for _, c := range group.List {
			if s.line(c) == s.line(n) && expr.MatchString(c.Text) {
				return true
			}
		}
	}
	return false
}
