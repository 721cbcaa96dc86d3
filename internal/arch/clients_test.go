package arch_test

import (
	"bytes"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
)

// TestClientsHaveTheScripts checks that each client in another language has copies of the Lua
// scripts of redisstore, all of them and no others. With -update, the test writes the copies.
func TestClientsHaveTheScripts(t *testing.T) {
	const original = "redisstore/lua"
	copies := map[string][]string{} // folder with scripts to its files
	for _, name := range load(t).scripts {
		copies[path.Dir(name)] = append(copies[path.Dir(name)], path.Base(name))
	}
	want := copies[original]
	if len(want) < 10 {
		t.Fatalf("found %q in %s", want, original)
	}
	clients, err := filepath.Glob(root + "/clients/*/test")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range clients {
		client := path.Join("clients", filepath.Base(filepath.Dir(test)))
		folders := slices.DeleteFunc(slices.Sorted(maps.Keys(copies)), func(folder string) bool { return !within(folder, client) })
		if len(folders) != 1 || path.Base(folders[0]) != "lua" {
			t.Errorf("%s has scripts in %q: it must have them in one folder with the name lua", client, folders)
			continue
		}
		for _, name := range wrongCopies(t, original, folders[0], want, copies[folders[0]]) {
			t.Errorf("%s/%s is not the script of %s: run go test ./internal/arch -run Scripts -update", folders[0], name, original)
		}
	}
}

// wrongCopies returns the names of the scripts that are missing, different or too many in a folder.
// With -update, it corrects them instead.
func wrongCopies(t *testing.T, original, folder string, want, got []string) (wrong []string) {
	for _, name := range want {
		text := mustRead(t, path.Join(original, name))
		b, err := os.ReadFile(filepath.Join(root, folder, name))
		switch {
		case err == nil && bytes.Equal(b, []byte(text)):
		case *update:
			if err := os.WriteFile(filepath.Join(root, folder, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		default:
			wrong = append(wrong, name)
		}
	}
	for _, name := range got {
		switch {
		case slices.Contains(want, name):
		case *update:
			if err := os.Remove(filepath.Join(root, folder, name)); err != nil {
				t.Fatal(err)
			}
		default:
			wrong = append(wrong, name)
		}
	}
	return wrong
}
