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

// checklists says how many rows docs/security.md must have for each letter.
var checklists = []struct {
	letter string
	rows   int
}{{"K", 16}, {"A", 32}, {"S", 26}, {"R", 14}, {"N", 20}}

// howWords lists the words that the column "how" may contain, alone or separated by commas.
var howWords = []string{"default", "always", "option", "refused", "application"}

var (
	rowOfSecurity = regexp.MustCompile(`(?m)^\| ([A-Z]\d\d)\b[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$`)
	anyRow        = regexp.MustCompile(`(?m)^\| [A-Z]\d\d\b`)
	namedTest     = regexp.MustCompile("`((?:Test|Fuzz|Example)[A-Z]\\w*|[a-z]+/[a-z0-9-]+)`")
)

// TestSecurityPageNamesTests checks docs/security.md. It must list each requirement once and in
// order. Each row must name tests that exist: `TestX` is a test of this repository, `a/b` is a case
// of storetest. Only a row that is the application's part alone may name none.
func TestSecurityPageNamesTests(t *testing.T) {
	for _, problem := range checkSecurity(mustRead(t, "docs/security.md"), testNames(t)) {
		t.Errorf("docs/security.md: %s", problem)
	}
}

// checkSecurity returns the problems of the page.
func checkSecurity(text string, names map[string]bool) (problems []string) {
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var ids []string
	rows := rowOfSecurity.FindAllStringSubmatch(text, -1)
	if n := len(anyRow.FindAllString(text, -1)); n != len(rows) {
		report("of %d rows, %d have five columns", n, len(rows))
	}
	for _, row := range rows {
		id, how, what := row[1], strings.TrimSpace(row[3]), strings.TrimSpace(row[4])
		tests := namedTest.FindAllStringSubmatch(row[5], -1)
		ids = append(ids, id)
		for word := range strings.SplitSeq(how, ", ") {
			if !slices.Contains(howWords, word) {
				report("%s: %q is not one of %s", id, word, strings.Join(howWords, ", "))
			}
		}
		if what == "" {
			report("%s does not say what happens", id)
		}
		if len(tests) == 0 && how != "application" {
			report("%s names no test: only a row whose \"how\" is \"application\" may name none", id)
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
			report("%d rows for %s, want 1", n, id)
		}
	}
	for _, id := range ids {
		if !slices.Contains(want, id) {
			report("%s is not in a checklist", id)
		}
	}
	if len(problems) == 0 && !slices.Equal(ids, want) {
		report("the rows are not in order")
	}
	for _, cited := range namedTest.FindAllStringSubmatch(text, -1) {
		if !names[cited[1]] {
			report("%s does not exist: was the test renamed?", cited[1])
		}
	}
	return problems
}

// testNames returns the names of all tests of the repository, and of the cases of storetest.
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

// TestCheckSecurityFindsProblems checks checkSecurity: it reports each kind of problem, and none
// for a correct page.
func TestCheckSecurityFindsProblems(t *testing.T) {
	var rows []string
	for _, list := range checklists {
		for n := range list.rows {
			rows = append(rows, fmt.Sprintf("| %s%02d (1.1) | rule | always | so | `TestX`, `a/b` |\n", list.letter, n+1))
		}
	}
	text := strings.Join(rows, "")
	names := map[string]bool{"TestX": true, "a/b": true}
	if problems := checkSecurity(text, names); len(problems) != 0 {
		t.Fatalf("problems of a correct page: %q", problems)
	}
	swap := func(old, with string) string { return strings.Replace(text, old, with, 1) }
	for want, text := range map[string]string{
		"K01 names no test":          swap("`TestX`, `a/b`", ""),
		"TestY does not exist":       swap("TestX", "TestY"),
		"a/c does not exist":         swap("a/b", "a/c"),
		"0 rows for K01, want 1":     swap(rows[0], ""),
		"2 rows for K01, want 1":     swap(rows[0], rows[0]+rows[0]),
		"K17 is not in a checklist":  text + strings.Replace(rows[0], "K01", "K17", 1),
		"the rows are not in order":  swap(rows[0]+rows[1], rows[1]+rows[0]),
		`K01: "somehow" is not one`:  swap("always", "somehow"),
		"K01 does not say":           swap("| so |", "| |"),
		"of 108 rows, 107 have":      swap("| so |", "|"),
		`K01: "option always" is no`: swap("always", "option always"),
	} {
		if problems := checkSecurity(text, names); !strings.Contains(strings.Join(problems, "\n"), want) {
			t.Errorf("problems %q, want one with %q", problems, want)
		}
	}
	text = strings.Replace(swap("`TestX`, `a/b`", ""), "always", "application", 1)
	if problems := checkSecurity(text, names); len(problems) != 0 {
		t.Errorf("a row that is the application's part needs no test, but got %q", problems)
	}
}
