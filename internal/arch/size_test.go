package arch_test

import (
	"bytes"
	"go/ast"
	"testing"
)

const (
	maxFile     = 500 // lines: one idea a file
	maxFunction = 60  // lines: one screen
	maxTest     = 100 // lines: a test with its table
)

// longer are the files ("path") and functions ("path:Name") that are over these bounds, each with the reason.
var longer = map[string]string{
	"redisstore/url.go:parseURL": "one scheme after the other, and for each mistake its own words",
}

func TestSizes(t *testing.T) {
	needed := map[string]bool{}
	check := func(name string, lines, limit int) {
		if lines <= limit {
			return
		}
		needed[name] = true
		if longer[name] == "" {
			t.Errorf("%s has %d lines, over %d: divide it, or enter it with a reason in longer (internal/arch)", name, lines, limit)
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
			t.Errorf("%s is not over its bound any more: take it out of longer", name)
		}
	}
}
