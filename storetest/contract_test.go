package storetest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/coatcheck-go/session/storetest"
)

// TestContractSuiteCoversEachCase checks that each case is also a scenario of format/contract, or
// is listed there with a reason. So a promise to stores is a promise in every language.
func TestContractSuiteCoversEachCase(t *testing.T) {
	covered := map[string]string{} // case to scenario
	files, err := filepath.Glob("../format/contract/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("found %d files of the contract suite: %v", len(files), err)
	}
	reasons := map[string]string{}
	for _, name := range files {
		if filepath.Base(name) == "not-covered.json" {
			mustReadJSON(t, name, &reasons)
			continue
		}
		var file struct {
			Scenarios []struct {
				Name, Claim string
				Covers      []string
			}
		}
		mustReadJSON(t, name, &file)
		for _, s := range file.Scenarios {
			for _, c := range s.Covers {
				covered[c] = s.Name
			}
			if s.Name == "" || s.Claim == "" {
				t.Errorf("%s: scenario %q has no name or no claim", name, s.Name)
			}
		}
	}
	names := storetest.CaseNames()
	for _, name := range names {
		switch scenario, reason := covered[name], reasons[name]; {
		case scenario == "" && reason == "":
			t.Errorf("no scenario covers %s: add one, or its reason to format/contract/not-covered.json", name)
		case scenario != "" && reason != "":
			t.Errorf("the scenario %q covers %s: remove it from not-covered.json", scenario, name)
		}
	}
	for _, m := range []map[string]string{covered, reasons} {
		for name := range m {
			if !slices.Contains(names, name) {
				t.Errorf("format/contract names the case %s, which does not exist", name)
			}
		}
	}
}

func mustReadJSON(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
