package arch_test

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// checklists are how many rows docs/security.md has of each letter: none of a checklist is left out.
var checklists = []struct {
	letter string
	rows   int
}{{"K", 16}, {"A", 32}, {"S", 26}, {"R", 14}, {"N", 20}}

// hows are what the column "how" may say, alone or joined by commas.
var hows = []string{"default", "always", "option", "refused", "application"}

var (
	rowOfSecurity = regexp.MustCompile(`(?m)^\| ([A-Z]\d\d)\b[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$`)
	anyRow        = regexp.MustCompile(`(?m)^\| [A-Z]\d\d\b`)
	namedTest     = regexp.MustCompile("`((?:Test|Fuzz|Example)[A-Z]\\w*|[a-z]+/[a-z0-9-]+)`")
)

// TestSecurity: docs/security.md has each requirement once, in order, and a row is as good as its test: `TestX` is a test of this
// repository, `a/b` a case of storetest. Only what is the application's part alone may do without.
func TestSecurity(t *testing.T) {
	for _, wrong := range checkSecurity(page(t, "docs/security.md"), testNames(t)) {
		t.Errorf("docs/security.md: %s", wrong)
	}
}

// checkSecurity returns what is wrong with the page.
func checkSecurity(text string, names map[string]bool) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	var ids []string
	rows := rowOfSecurity.FindAllStringSubmatch(text, -1)
	if n := len(anyRow.FindAllString(text, -1)); n != len(rows) {
		complain("%d rows, of which %d have five columns", n, len(rows))
	}
	for _, row := range rows {
		id, how, what, tests := row[1], strings.TrimSpace(row[3]), strings.TrimSpace(row[4]), namedTest.FindAllStringSubmatch(row[5], -1)
		ids = append(ids, id)
		for word := range strings.SplitSeq(how, ", ") {
			if !slices.Contains(hows, word) {
				complain("%s: %q is none of %s", id, word, strings.Join(hows, ", "))
			}
		}
		if what == "" {
			complain("%s does not say what happens", id)
		}
		if len(tests) == 0 && how != "application" {
			complain("%s names no test: only what is the application's part alone may do without", id)
		}
	}
	var want []string
	for _, list := range checklists {
		for n := range list.rows {
			want = append(want, fmt.Sprintf("%s%02d", list.letter, n+1))
		}
	}
	for _, id := range want {
		if n := len(ids) - len(slices.DeleteFunc(slices.Clone(ids), func(have string) bool { return have == id })); n != 1 {
			complain("%d rows for %s, want one", n, id)
		}
	}
	for _, id := range ids {
		if !slices.Contains(want, id) {
			complain("%s is of no checklist", id)
		}
	}
	if len(wrong) == 0 && !slices.Equal(ids, want) {
		complain("the rows are not in order")
	}
	for _, cited := range namedTest.FindAllStringSubmatch(text, -1) {
		if !names[cited[1]] {
			complain("%s is not there", cited[1])
		}
	}
	return wrong
}

// testNames returns the names of the repository's tests and of storetest's cases.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, s := range load(t).sources {
		for _, decl := range s.ast.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && s.test && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
		if s.dir != "storetest" {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if kv, ok := n.(*ast.KeyValueExpr); ok && isName(kv.Key) {
				if lit, ok := kv.Value.(*ast.BasicLit); ok {
					name, _ := strconv.Unquote(lit.Value)
					names[name] = true
				}
			}
			return true
		})
	}
	return names
}

func isName(key ast.Expr) bool {
	id, ok := key.(*ast.Ident)
	return ok && id.Name == "name"
}

// TestSecurityIsChecked: each way for the page to go wrong is found, and nothing is wrong with one that has all of it.
func TestSecurityIsChecked(t *testing.T) {
	var rows []string
	for _, list := range checklists {
		for n := range list.rows {
			rows = append(rows, fmt.Sprintf("| %s%02d (1.1) | rule | always | so | `TestX`, `a/b` |\n", list.letter, n+1))
		}
	}
	text := strings.Join(rows, "")
	names := map[string]bool{"TestX": true, "a/b": true}
	if wrong := checkSecurity(text, names); len(wrong) != 0 {
		t.Fatalf("a good page: %q", wrong)
	}
	swap := func(old, with string) string { return strings.Replace(text, old, with, 1) }
	for what, text := range map[string]string{
		"K01 names no test":          swap("`TestX`, `a/b`", ""),
		"TestY is not there":         swap("TestX", "TestY"),
		"a/c is not there":           swap("a/b", "a/c"),
		"0 rows for K01, want one":   swap(rows[0], ""),
		"2 rows for K01, want one":   swap(rows[0], rows[0]+rows[0]),
		"K17 is of no checklist":     text + strings.Replace(rows[0], "K01", "K17", 1),
		"the rows are not in order":  swap(rows[0]+rows[1], rows[1]+rows[0]),
		`K01: "somehow" is none of`:  swap("always", "somehow"),
		"K01 does not say":           swap("| so |", "| |"),
		"108 rows, of which 107":     swap("| so |", "|"),
		`K01: "option always" is no`: swap("always", "option always"),
	} {
		if wrong := checkSecurity(text, names); !strings.Contains(strings.Join(wrong, "\n"), what) {
			t.Errorf("want %q, got %q", what, wrong)
		}
	}
	if wrong := checkSecurity(strings.Replace(swap("`TestX`, `a/b`", ""), "always", "application", 1), names); len(wrong) != 0 {
		t.Errorf("what is the application's part needs no test: %q", wrong)
	}
}
