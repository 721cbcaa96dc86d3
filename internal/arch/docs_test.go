package arch_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var readmeProgram = regexp.MustCompile("(?ms)^```go main.go\npackage main\n(.*?)^```$")

// TestReadmeProgram checks that the README's main.go is the beginning of example_readme_test.go,
// except for the name of the package. So the program compiles as it stands, imports included, and
// the example runs its handler.
func TestReadmeProgram(t *testing.T) {
	program := readmeProgram.FindStringSubmatch(mustRead(t, "README.md"))
	if program == nil {
		t.Fatal("README.md shows no main.go")
	}
	if !strings.HasPrefix(mustRead(t, "example_readme_test.go"), "package session_test\n"+program[1]) {
		t.Errorf("README.md shows a main.go that is not the beginning of example_readme_test.go:\n\n%s", program[1])
	}
}

// TestDocsQuoteExamples checks that the Go code in docs/ is in examples, which compile and run: in
// an example test, or in a program below examples/. Comments may differ.
func TestDocsQuoteExamples(t *testing.T) {
	repo := load(t)
	var examples strings.Builder
	for _, s := range repo.sources {
		if strings.HasPrefix(path.Base(s.path), "example_") && s.test || strings.HasPrefix(s.path, "examples/") {
			examples.WriteString(flat(withoutComments(string(s.text))))
		}
	}
	for _, name := range repo.pages {
		if path.Dir(name) != "docs" {
			continue
		}
		for _, b := range fenced.FindAllStringSubmatch(mustRead(t, name), -1) {
			if code := withoutComments(strings.TrimSpace(b[1])); !strings.Contains(examples.String(), flat(code)) {
				t.Errorf("%s shows code that is in no example_*_test.go:\n\n%s", name, code)
			}
		}
	}
}

var lineComment = regexp.MustCompile(`(?m)(^|[ \t])//.*$`)

// withoutComments removes line comments and empty lines. It does not parse string literals: a URL
// has no space before its slashes.
func withoutComments(code string) string {
	var lines []string
	for line := range strings.SplitSeq(lineComment.ReplaceAllString(code, ""), "\n") {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// TestDocsIndex checks that docs/README.md links to each page of docs/.
func TestDocsIndex(t *testing.T) {
	index := mustRead(t, "docs/README.md")
	for _, name := range load(t).pages {
		if path.Dir(name) == "docs" && name != "docs/README.md" && !strings.Contains(index, "("+path.Base(name)+")") {
			t.Errorf("docs/README.md does not link to %s", name)
		}
	}
}

// TestAnchors checks that links to a heading, on the same page or on another one, name a heading
// that exists.
func TestAnchors(t *testing.T) {
	pages := map[string]string{}
	for _, name := range load(t).pages {
		pages[name] = mustRead(t, name)
	}
	for name, text := range pages {
		for _, wrong := range wrongAnchors(name, text, pages) {
			t.Error(wrong)
		}
	}
}

var (
	anchorLink = regexp.MustCompile(`\]\(([^)#\s:]*)#([^)\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#+ +(.+?)\s*$`)
	notAnchor  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	fencedAny  = regexp.MustCompile("(?ms)^```.*?^```$")
)

// wrongAnchors returns what is wrong with the links to headings of one page.
func wrongAnchors(name, text string, pages map[string]string) (wrong []string) {
	for _, m := range anchorLink.FindAllStringSubmatch(text, -1) {
		target := name
		if m[1] != "" {
			target = path.Join(path.Dir(name), m[1])
		}
		to, ok := pages[target]
		if !ok {
			if _, err := os.Stat(filepath.Join(root, target)); err == nil && path.Ext(target) != ".md" {
				continue // a line of a source file
			}
			wrong = append(wrong, fmt.Sprintf("%s links to %s, which does not exist", name, target))
			continue
		}
		if !anchors(to)[m[2]] {
			wrong = append(wrong, fmt.Sprintf("%s links to %s#%s, and %s has no such heading", name, m[1], m[2], target))
		}
	}
	return wrong
}

// anchors returns the names that GitHub gives to the headings of a page.
func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fencedAny.ReplaceAllString(text, ""), -1) {
		name := strings.ReplaceAll(strings.ToLower(notAnchor.ReplaceAllString(m[1], "")), " ", "-")
		unique := name
		for n := 1; names[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", name, n)
		}
		names[unique] = true
	}
	return names
}

// TestAnchorsAreChecked checks wrongAnchors: it reports missing pages and headings, and accepts
// those that exist.
func TestAnchorsAreChecked(t *testing.T) {
	pages := map[string]string{"docs/a.md": "# Title\n\n## Sign `in`, out\n\n## Twice\n\n## Twice\n\n```sh\n# no heading\n```\n"}
	for link, want := range map[string]bool{
		"a.md#sign-in-out": true, "a.md#twice-1": true, "#title": true,
		"a.md#twice-2": false, "a.md#no-heading": false, "b.md#title": false, "#signin": false,
	} {
		text, name := "[x]("+link+")", "docs/c.md"
		if strings.HasPrefix(link, "#") {
			name = "docs/a.md"
		}
		if wrong := wrongAnchors(name, text, pages); (len(wrong) == 0) != want {
			t.Errorf("%s: %q", link, wrong)
		}
	}
}
