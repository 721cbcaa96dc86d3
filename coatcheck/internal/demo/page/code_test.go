package page_test

import (
	"strings"
	"testing"

	"github.com/coatcheck-go/session/coatcheck/internal/demo/page"
)

const program = `package p

// Answer is a number.
const Answer = 42 // of course

type t struct{}

// say says it.
func (t) say() string { return "it" }
`

func TestCodeIsThatOfTheFile(t *testing.T) {
	var shown strings.Builder
	classes := map[string]string{}
	for _, part := range page.Code("p.go", program, "Answer", "say").Parts {
		shown.WriteString(part.Text)
		if part.Class != "" {
			classes[part.Text] = part.Class
		}
	}
	want := "// Answer is a number.\nconst Answer = 42\n\n// say says it.\nfunc (t) say() string { return \"it\" }"
	if got := shown.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for text, class := range map[string]string{`"it"`: "string", "const": "keyword", "// say says it.": "comment"} {
		if got := classes[text]; got != class {
			t.Errorf("class of %s: got %q, want %q", text, got, class)
		}
	}
}

func TestCodePanicsOnAnUnknownName(t *testing.T) {
	defer func() {
		if got := recover(); got != "p.go declares no question" {
			t.Errorf("got %v, want a panic with the name", got)
		}
	}()
	page.Code("p.go", program, "question")
}
