package polyglot_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scenario is one of format/contract. README.md there describes all types of this file.
type scenario struct {
	Name    string
	Claim   string
	Covers  []string
	Options map[string]json.RawMessage
	Clients map[string]map[string]json.RawMessage
	Needs   []string
	Steps   []json.RawMessage // of stepData, before placeholders are filled in
}

// stepData is a step of any kind.
type stepData struct {
	requestData
	Unchanged  string
	Want       json.RawMessage
	AtOnce     []json.RawMessage `json:"at once"` // of requestData
	Distinct   bool
	Redis      []string
	Everywhere bool
	Repeat     bool
	Token      string
	Text       string
	Cut        []int
	Before     string
	WaitMS     int64 `json:"wait_ms"`
}

// requestData is a request, or requests at once.
type requestData struct {
	As, On  names
	Do      [][]json.RawMessage
	Request string
	Open    bool
	Times   int
}

// names is one name or a list.
type names []string

// UnmarshalJSON decodes one name or a list.
func (n *names) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		*n = names{""}
		return json.Unmarshal(b, &(*n)[0])
	}
	return json.Unmarshal(b, (*[]string)(n))
}

// want is what a reply must be.
type want struct {
	Outcome names
	Values  []json.RawMessage
	Session json.RawMessage
	Token   string
	Times   json.RawMessage // a number, or the least and the most
	Counted []string        // a visitor and a counter
}

// suiteFiles are the files of the suite with scenarios.
var suiteFiles = []string{"fields", "limits", "user-data", "sessions", "users", "hostile", "together"}

func mustReadSuite(t testing.TB) (all []scenario) {
	t.Helper()
	for _, name := range suiteFiles {
		b, err := os.ReadFile(filepath.Join("../../format/contract", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var file struct{ Scenarios []scenario }
		mustDecode(t, b, &file)
		for _, s := range file.Scenarios {
			s.Name = name + "/" + strings.ReplaceAll(s.Name, " ", "-")
			all = append(all, s)
		}
	}
	return all
}

// mustDecode refuses members that the types do not have: a runner would ignore them.
func mustDecode(t testing.TB, b []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %.300s", err, b)
	}
}
