package arch_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var fenced = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

// TestReadmeQuotesTheExample: what the README shows is code that compiles and has been run. Each part of a Go block, between
// empty lines, stands in one of the examples.
func TestReadmeQuotesTheExample(t *testing.T) {
	var examples strings.Builder
	for _, s := range load(t).sources {
		if strings.HasPrefix(path.Base(s.path), "example_") && s.test {
			examples.WriteString(flat(string(s.text)))
		}
	}
	blocks := fenced.FindAllStringSubmatch(page(t, "README.md"), -1)
	if len(blocks) == 0 {
		t.Fatal("README.md shows no Go")
	}
	for _, b := range blocks {
		for part := range strings.SplitSeq(strings.TrimSpace(b[1]), "\n\n") {
			if !strings.Contains(examples.String(), flat(part)) {
				t.Errorf("README.md shows code that is in no example_*_test.go:\n\n%s", part)
			}
		}
	}
}

// flat returns code line by line, without what indents it and what aligns its comments.
func flat(code string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.Trim(code, "\n"), "\n") {
		b.WriteString("\n" + strings.Join(strings.Fields(line), " "))
	}
	return b.String() + "\n"
}

// TestPagesAreFinished: what is yet to be written is not published.
func TestPagesAreFinished(t *testing.T) {
	for _, name := range load(t).pages {
		for n, line := range strings.Split(page(t, name), "\n") {
			if strings.Contains(line, "TODO") {
				t.Errorf("%s:%d: %.80s", name, n+1, line)
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)

// TestLinks: links between the pages lead somewhere.
func TestLinks(t *testing.T) {
	for _, name := range load(t).pages {
		for _, m := range link.FindAllStringSubmatch(page(t, name), -1) {
			if strings.Contains(m[1], ":") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	}
}
