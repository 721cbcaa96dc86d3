package arch_test

import (
	"go/ast"
	"testing"
)

// reserve is the function that tests of redisstore call to reserve a place for their servers.
const reserve = "limitParallel"

// TestReservedPlacesDoNotDeadlock checks tests that call reserve. The number of places is limited,
// and a test keeps its place until its subtests are done. Parallel subtests of such a test would
// wait for a free slot, while the tests in the slots wait for a place. Now and then no test could
// continue.
func TestReservedPlacesDoNotDeadlock(t *testing.T) {
	repo := load(t)
	callers := 0
	for _, s := range repo.sources {
		if !s.test {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			body := bodyOf(n)
			if body == nil || !reserves(body) {
				return true
			}
			callers++
			if c := parallelIn(body); c != nil {
				t.Errorf("%s:%d: the subtest runs in parallel, but the test around it has called %s: call %[3]s in the subtests only",
					s.path, s.line(c), reserve)
			}
			return true
		})
	}
	if callers < 10 {
		t.Errorf("found only %d calls of %s: correct the constant reserve if the function has a new name", callers, reserve)
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

// reserves reports whether a function calls reserve itself. Calls in nested functions do not count.
func reserves(body *ast.BlockStmt) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		found = found || ok && calls(call, "", reserve)
		_, within := n.(*ast.FuncLit)
		return !within
	})
	return found
}

// parallelIn returns a call that makes a subtest run in parallel, or nil.
func parallelIn(body *ast.BlockStmt) (found ast.Node) {
	subtest := func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && (calls(call, "", reserve) || calls(call, "t", "Parallel")) {
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

// calls reports whether call calls x.name, or name if x is "".
func calls(call *ast.CallExpr, x, name string) bool {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return x == "" && f.Name == name
	case *ast.SelectorExpr:
		qualifier, ok := f.X.(*ast.Ident)
		return ok && qualifier.Name == x && f.Sel.Name == name
	}
	return false
}
