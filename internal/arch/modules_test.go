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

// required are the modules that the root module may require. Whoever uses a store of ours inherits them, so each has its reason.
var required = map[string]string{
	"go.etcd.io/bbolt":         "filestore's database",
	"golang.org/x/sys":         "bbolt's: locks and mapped files",
	"github.com/redis/rueidis": "redisstore's client",
}

// modFile is what "go mod edit -json" prints, as far as it matters here.
type modFile struct {
	Module  struct{ Path string }
	Go      string
	Require []struct{ Path string }
	Replace []struct{ Old struct{ Path string } }
}

func goJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatal(err)
	}
}

func TestModules(t *testing.T) {
	repo := load(t)
	for _, m := range repo.modules {
		var mod modFile
		goJSON(t, &mod, "mod", "edit", "-json", filepath.Join(root, m, "go.mod"))
		if want := path.Join(modulePath, m); mod.Module.Path != want {
			t.Errorf("%s/go.mod is of module %q: by its place it is %q", m, mod.Module.Path, want)
		}
		for _, r := range mod.Replace {
			t.Errorf("%s/go.mod replaces %q, which breaks go install %s@version: replace it in go.work", m, r.Old.Path, mod.Module.Path)
		}
		if m != "." {
			continue
		}
		if mod.Go != "1.25" && mod.Go != "1.25.0" {
			t.Errorf("go.mod says go %s: applications are promised 1.25", mod.Go)
		}
		for _, r := range mod.Require {
			if required[r.Path] == "" {
				t.Errorf("go.mod requires %q, which all users inherit: do without it, or enter it with its reason in required (internal/arch)", r.Path)
			}
		}
	}
}

// TestWorkspace: a module that go.work leaves out is one that ./test leaves out.
func TestWorkspace(t *testing.T) {
	repo := load(t)
	var work struct{ Use []struct{ DiskPath string } }
	goJSON(t, &work, "work", "edit", "-json", filepath.Join(root, "go.work"))
	var used []string
	for _, u := range work.Use {
		used = append(used, path.Clean(u.DiskPath))
	}
	for _, m := range repo.modules {
		if !slices.Contains(used, m) {
			t.Errorf("go.work does not use module %q, so ./test does not test it: go work use ./%s", m, m)
		}
	}
}
