package arch_test

import (
	"go/ast"
	"testing"
)

// TestPlaces: a test that takes a place, of which there are few, has no subtests that run at the same time. It would keep the place until they
// are done; they wait for their turn, which tests have that wait for places: all stand still, now and then.
func TestPlaces(t *testing.T) {
	repo := load(t)
	takers := 0
	for _, s := range repo.sources {
		if !s.test {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			body := bodyOf(n)
			if body == nil || !takesPlace(body) {
				return true
			}
			takers++
			if c := parallelIn(body); c != nil {
				t.Errorf("%s:%d: this runs beside other tests, and the test around it has called few: call it in the subtests only", s.path, s.line(c))
			}
			return true
		})
	}
	if takers < 10 {
		t.Errorf("%d tests call few, so this looks for the wrong thing", takers)
	}
}

func bodyOf(n ast.Node) *ast.BlockStmt {
	switch f := n.(type) {
	case *ast.FuncDecl:
		return f.Body
	case *ast.FuncLit:
		return f.Body
	}
	return nil
}

// takesPlace reports whether a function itself calls few, and no function within it.
func takesPlace(body *ast.BlockStmt) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		found = found || ok && calls(call, "", "few")
		_, within := n.(*ast.FuncLit)
		return !within
	})
	return found
}

// parallelIn returns what makes a subtest run beside others, nil if nothing does.
func parallelIn(body *ast.BlockStmt) (found ast.Node) {
	subtest := func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && (calls(call, "", "few") || calls(call, "t", "Parallel")) {
			found = call
		}
		return true
	}
	ast.Inspect(body, func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncLit); ok {
			ast.Inspect(f, subtest)
		}
		if call, ok := n.(*ast.CallExpr); ok && calls(call, "storetest", "Run") {
			found = call
		}
		return true
	})
	return found
}

// calls reports whether call is of x.name, or of name if x is "".
func calls(call *ast.CallExpr, x, name string) bool {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return x == "" && f.Name == name
	case *ast.SelectorExpr:
		of, ok := f.X.(*ast.Ident)
		return ok && of.Name == x && f.Sel.Name == name
	}
	return false
}
