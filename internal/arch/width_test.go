package arch_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxComment = 100 // columns of a line that has a comment
	tabWidth   = 4   // columns that a tab counts as
)

// TestLinesWithCommentsAreShort checks all Go and Lua files. A line that has a comment, alone or
// after code, has at most 100 columns. Nobody can break a "//go:" directive, or a comment that is a
// single word, such as a URL. These may be longer. Files in testdata are not checked.
func TestLinesWithCommentsAreShort(t *testing.T) {
	repo := load(t)
	var wide []string
	add := func(name, text string, commented map[int]bool) {
		for _, n := range wideLines(text, commented) {
			wide = append(wide, fmt.Sprintf("%s:%d", name, n))
		}
	}
	for _, s := range repo.sources {
		add(s.path, string(s.text), goComments(s.ast))
	}
	for _, name := range repo.scripts {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		add(name, string(text), luaComments(string(text)))
	}
	if len(repo.scripts) == 0 {
		t.Error("found no Lua file: this test looks in the wrong place")
	}
	if len(wide) > 0 {
		t.Errorf("%d lines with a comment have more than %d columns, where a tab counts as %d. Wrap the comment. "+
			"If it follows code, move it to a line of its own above the code.\n%s",
			len(wide), maxComment, tabWidth, strings.Join(wide, "\n"))
	}
}

// wideLines returns the numbers of the lines that are in commented and too wide.
func wideLines(text string, commented map[int]bool) (wide []int) {
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		tabs := strings.Count(line, "\t")
		columns := utf8.RuneCountInString(line) + tabs*(tabWidth-1)
		if commented[n] && columns > maxComment && !isOneWord(line) {
			wide = append(wide, n)
		}
	}
	return wide
}

// isOneWord reports whether a line consists of a comment with a single word.
func isOneWord(line string) bool {
	words := strings.Fields(line)
	return len(words) == 2 && (words[0] == "//" || words[0] == "--")
}

// goComments returns the numbers of the lines with a comment. Directives do not count.
func goComments(f *ast.File) map[int]bool {
	lines := map[int]bool{}
	for _, group := range f.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:") {
				continue
			}
			for n := fset.Position(c.Pos()).Line; n <= fset.Position(c.End()).Line; n++ {
				lines[n] = true
			}
		}
	}
	return lines
}

// luaComments returns the numbers of the lines with a comment.
func luaComments(text string) map[int]bool {
	lines := map[int]bool{}
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		var quote byte // of the string that the scan is in, or 0
		for i := 0; i < len(line); i++ {
			switch c := line[i]; {
			case quote != 0 && c == '\\':
				i++
			case c == quote:
				quote = 0
			case quote == 0 && (c == '\'' || c == '"'):
				quote = c
			case quote == 0 && strings.HasPrefix(line[i:], "--"):
				lines[n] = true
			}
		}
	}
	return lines
}

// TestWideLinesAreFound checks the functions above.
func TestWideLinesAreFound(t *testing.T) {
	words, word := strings.Repeat("a ", 45), strings.Repeat("a", 90)
	for name, tt := range map[string]struct {
		line string
		wide bool
	}{
		"100 columns":               {"// " + strings.Repeat("a ", 48) + "b", false},
		"101 columns":               {"// " + strings.Repeat("a ", 49), true},
		"a tab counts as 4":         {"\t// " + strings.Repeat("a ", 47), true},
		"a letter is one column":    {"// " + strings.Repeat("é ", 48) + "é", false},
		"a comment after code":      {"var a = 1 // " + words, true},
		"code without a comment":    {"var a = `" + strings.Repeat("// ", 40) + "`", false},
		"a directive":               {"//go:generate " + words, false},
		"a single word":             {"// https://example.org/" + word, false},
		"a word after another":      {"// see https://example.org/" + word, true},
		"a nolint with its reason":  {"var a = 1 //nolint:gosec // " + words, true},
		"the second line of a text": {"/*\n" + strings.Repeat("a ", 60) + "*/", true},
	} {
		text := "package p\n\n" + tt.line + "\n"
		f, err := parser.ParseFile(fset, "p.go", text, parser.ParseComments)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := wideLines(text, goComments(f)); (len(got) > 0) != tt.wide {
			t.Errorf("Go, %s: got wide lines %v, want some: %v", name, got, tt.wide)
		}
	}
	for name, tt := range map[string]struct {
		line string
		wide bool
	}{
		"a comment":            {"-- " + strings.Repeat("a ", 50), true},
		"a comment after code": {"local a = 'it''s' -- " + words, true},
		"a string":             {"local a = '" + strings.Repeat("-- ", 40) + "'", false},
		"an escaped quote":     {`local a = "\"` + strings.Repeat("-- ", 40) + `"`, false},
		"100 columns":          {"-- " + strings.Repeat("a ", 48) + "b", false},
	} {
		if got := wideLines(tt.line, luaComments(tt.line)); (len(got) > 0) != tt.wide {
			t.Errorf("Lua, %s: got wide lines %v, want some: %v", name, got, tt.wide)
		}
	}
}
