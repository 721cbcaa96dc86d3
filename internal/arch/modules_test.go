package arch_test

import (
	"encoding/json"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// required lists the modules that the root module may require, each with its reason. Every user of
// a store of this repository inherits them.
var required = map[string]string{
	"go.etcd.io/bbolt":         "filestore's database",
	"golang.org/x/sys":         "required by bbolt: locks and mapped files",
	"github.com/redis/rueidis": "redisstore's client",
}

// modFile is the part of the output of "go mod edit -json" that these tests use.
type modFile struct {
	Module  struct{ Path string }
	Go      string
	Require []struct{ Path string }
	Replace []struct{ Old struct{ Path string } }
}

// mustGoJSON runs the go command and decodes what it prints.
func mustGoJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatal(err)
	}
}

// TestGoModFilesFollowTheRules checks the module path, the Go version, and what is required and
// replaced.
func TestGoModFilesFollowTheRules(t *testing.T) {
	repo := load(t)
	for _, m := range repo.modules {
		var mod modFile
		mustGoJSON(t, &mod, "mod", "edit", "-json", filepath.Join(root, m, "go.mod"))
		if want := path.Join(modulePath, m); mod.Module.Path != want {
			t.Errorf("%s/go.mod names module %q: its folder requires %q", m, mod.Module.Path, want)
		}
		for _, r := range mod.Replace {
			t.Errorf("%s/go.mod replaces %q, which breaks \"go install %s@version\": move the replace to go.work",
				m, r.Old.Path, mod.Module.Path)
		}
		if m != "." {
			continue
		}
		if mod.Go != "1.25" && mod.Go != "1.25.0" {
			t.Errorf("go.mod requires Go %s: applications are promised that 1.25 is enough", mod.Go)
		}
		for _, r := range mod.Require {
			if required[r.Path] == "" {
				t.Errorf("go.mod requires %q, which all users inherit: remove it, or add it with its reason to required in internal/arch",
					r.Path)
			}
		}
	}
}

// TestWorkspaceUsesEachModule checks go.work, because ./test covers only the modules listed there.
func TestWorkspaceUsesEachModule(t *testing.T) {
	repo := load(t)
	var work struct{ Use []struct{ DiskPath string } }
	mustGoJSON(t, &work, "work", "edit", "-json", filepath.Join(root, "go.work"))
	var used []string
	for _, u := range work.Use {
		used = append(used, path.Clean(u.DiskPath))
	}
	for _, m := range repo.modules {
		if !slices.Contains(used, m) {
			t.Errorf("go.work does not use module %q, so ./test does not test it: run go work use ./%s", m, m)
		}
	}
}
