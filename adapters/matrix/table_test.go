package matrix_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// table has the outcomes.
type table map[cellName][]string

type cellName struct{ row, framework string }

// reason says why frameworks differ from net/http.
type reason struct {
	frameworks []string
	rows       string // a pattern of their names
	fact       string // a pattern of the difference
	why        string
}

// reasons is what may differ. Each reason must be needed.
var reasons = []reason{
	{[]string{"Echo v5", "Echo v4", "gin"}, ``, `^\d+ JSON( gzip)?$`, "The framework, or its usual middleware, answers errors in JSON."},
	{[]string{"Echo v5", "Echo v4", "Fiber"}, `redirect|sign (in|out)`, `^303$`, "The framework's redirects have no body."},
	{[]string{"chi", "gin"}, `panic`, `^500$`, "chi's Recoverer and gin's Recovery write no body."},
	{[]string{"chi"}, `write nothing|nothing written|WebSocket`, `^log 0$`,
		"chi's logger records 0 if the handler writes no header."},
	{[]string{"Echo v5", "Echo v4", "gin"}, `logger inside`, `^log 503$`,
		"On net/http, a logger inside records what the handler writes, and not the error that replaces it. " +
			"The framework's logger knows the error."},
	{[]string{"Fiber"}, `error after a write`, ``,
		"Fiber sends the response when the handler has returned. So an error replaces what the handler wrote."},
	{[]string{"Fiber"}, `compression`, `^\d+ ("ok"|text)$`, "Fiber's compression leaves short bodies as they are."},
	{[]string{"Fiber"}, `WebSocket`, ``,
		"The connection is taken over after the response of the handshake. So the logger records 101, and the response " +
			"brings the cookie of a new visitor."},
}

// markdown returns the table with its reasons. Each difference without a reason, and each reason
// without a difference, is wrong.
func (t table) markdown() (text string, wrong []string) {
	var b strings.Builder
	b.WriteString("| case |")
	for _, f := range frameworks {
		b.WriteString(" " + f.name + " |")
	}
	b.WriteString("\n|" + strings.Repeat("---|", 1+len(frameworks)) + "\n")
	used := make([]bool, len(reasons))
	for _, r := range rows {
		first := t[cellName{r.name, frameworks[0].name}]
		fmt.Fprintf(&b, "| %s | %s |", r.name, strings.Join(first, "; "))
		for _, f := range frameworks[1:] {
			var cell []string
			for _, fact := range differences(first, t[cellName{r.name, f.name}]) {
				i := slices.IndexFunc(reasons, func(s reason) bool { return s.explains(f.name, r.name, fact) })
				if i < 0 {
					wrong = append(wrong, fmt.Sprintf("%s, %s: %q differs from %s (%q), and no reason says why",
						f.name, r.name, fact, frameworks[0].name, first))
					cell = append(cell, fact+" [?]")
					continue
				}
				used[i] = true
				cell = append(cell, fmt.Sprintf("%s [%d]", fact, i+1))
			}
			if cell == nil {
				cell = []string{"same"}
			}
			b.WriteString(" " + strings.Join(cell, "; ") + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, s := range reasons {
		fmt.Fprintf(&b, "%d. %s\n", i+1, s.why)
		if !used[i] {
			wrong = append(wrong, fmt.Sprintf("reason %d explains nothing: %s", i+1, s.why))
		}
	}
	return b.String(), wrong
}

// differences returns the facts of got that want lacks, and "no …" for those that only want has,
// unless another fact of the same kind takes its place.
func differences(want, got []string) (facts []string) {
	for _, fact := range got {
		if !slices.Contains(want, fact) {
			facts = append(facts, fact)
		}
	}
	for _, fact := range want {
		sameKind := func(other string) bool { return kindOfFact(other) == kindOfFact(fact) }
		if !slices.Contains(got, fact) && !slices.ContainsFunc(got, sameKind) {
			facts = append(facts, "no "+fact)
		}
	}
	return facts
}

// kindOfFact returns what a fact is about.
func kindOfFact(fact string) string {
	switch {
	case fact[0] >= '0' && fact[0] <= '9':
		return "status"
	case strings.HasPrefix(fact, "n="), fact == "no session":
		return "stored"
	}
	kind, _, _ := strings.Cut(fact, " ")
	return kind
}

func (s *reason) explains(framework, row, fact string) bool {
	matches := func(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }
	return slices.Contains(s.frameworks, framework) && matches(s.rows, row) && matches(s.fact, fact)
}
