package arch_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mustRead returns the text of a file of the repository.
func mustRead(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var fenced = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

// TestReadmeQuotesExamples checks that the code in the README compiles and runs. Each part of a Go
// block, separated by empty lines, must occur in one of the examples.
func TestReadmeQuotesExamples(t *testing.T) {
	var examples strings.Builder
	for _, s := range load(t).sources {
		if strings.HasPrefix(path.Base(s.path), "example_") && s.test {
			examples.WriteString(flat(string(s.text)))
		}
	}
	blocks := fenced.FindAllStringSubmatch(mustRead(t, "README.md"), -1)
	if len(blocks) == 0 {
		t.Fatal("README.md contains no Go code")
	}
	for _, b := range blocks {
		for part := range strings.SplitSeq(strings.TrimSpace(b[1]), "\n\n") {
			if !strings.Contains(examples.String(), flat(part)) {
				t.Errorf("README.md contains code that no example_*_test.go contains: change one of them\n\n%s", part)
			}
		}
	}
}

// flat returns code with each run of spaces and tabs replaced by one space, and without
// indentation.
func flat(code string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.Trim(code, "\n"), "\n") {
		b.WriteString("\n" + strings.Join(strings.Fields(line), " "))
	}
	return b.String() + "\n"
}

// TestPagesHaveNoTODO checks that no unfinished page is published.
func TestPagesHaveNoTODO(t *testing.T) {
	for _, name := range load(t).pages {
		for n, line := range strings.Split(mustRead(t, name), "\n") {
			if strings.Contains(line, "TODO") {
				t.Errorf("%s:%d: the page is not finished: %.80s", name, n+1, line)
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)

// TestLinksResolve checks the links from a page to other files of the repository.
func TestLinksResolve(t *testing.T) {
	for _, name := range load(t).pages {
		for _, m := range link.FindAllStringSubmatch(mustRead(t, name), -1) {
			if strings.Contains(m[1], ":") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
			}
		}
	}
}
