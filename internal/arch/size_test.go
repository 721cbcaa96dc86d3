package arch_test

import (
	"bytes"
	"go/ast"
	"testing"
)

const (
	maxFile     = 500 // lines
	maxFunction = 60  // lines: one screen
	maxTest     = 100 // lines: a test function may contain its table
)

// longer lists the files ("path") and functions ("path:Name") that may exceed the limits, each with
// its reason.
var longer = map[string]string{}

// TestFilesAndFunctionsAreShort checks all files that are not generated.
func TestFilesAndFunctionsAreShort(t *testing.T) {
	needed := map[string]bool{}
	check := func(name string, lines, limit int) {
		if lines <= limit {
			return
		}
		needed[name] = true
		if longer[name] == "" {
			t.Errorf("%s has %d lines, the limit is %d: split it, or add it with a reason to longer in internal/arch",
				name, lines, limit)
		}
	}
	for _, s := range load(t).sources {
		if ast.IsGenerated(s.ast) {
			continue
		}
		limit := maxFunction
		if s.test || s.dir == "storetest" {
			limit = maxTest
		}
		check(s.path, bytes.Count(s.text, []byte("\n")), maxFile)
		for _, decl := range s.ast.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				check(s.path+":"+f.Name.Name, s.lines(f), limit)
			}
		}
	}
	for name := range longer {
		if !needed[name] {
			t.Errorf("%s no longer exceeds its limit: remove it from longer in internal/arch", name)
		}
	}
}
