package redistest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

func TestNamedFindsServerByNameOrPath(t *testing.T) {
	for _, s := range redistest.Servers() {
		for _, name := range []string{s.Name, s.Argv[0]} {
			if got, err := redistest.Named(name); err != nil || got.Name != s.Name {
				t.Errorf("Named(%q) = %v, %v, want %v", name, got, err, s)
			}
		}
	}
	if _, err := redistest.Named("redis-1.0"); err == nil || !strings.Contains(err.Error(), "servers/install.sh") {
		t.Errorf("Named of an unknown server: %v, want an error that names the script", err)
	}
	if _, err := redistest.Named(os.Args[0]); err == nil {
		t.Error("Named accepts a program that is not a server")
	}
}

func TestDefaultFollowsEnvironment(t *testing.T) {
	for _, s := range redistest.Servers() {
		t.Setenv("COATCHECK_SERVER", s.Name)
		if got, err := redistest.Default(); err != nil || got.Name != s.Name {
			t.Errorf("Default with COATCHECK_SERVER=%s: %v, %v", s.Name, got, err)
		}
	}
	t.Setenv("COATCHECK_SERVER", "redis-1.0")
	if _, err := redistest.New(redistest.Options{}); err == nil || !strings.Contains(err.Error(), "redis-1.0") {
		t.Errorf("New with an unknown COATCHECK_SERVER: %v, want an error that names the server", err)
	}
	t.Setenv("COATCHECK_SERVER", "")
	t.Setenv("PATH", t.TempDir())
	_, err := redistest.New(redistest.Options{})
	if err == nil || !strings.Contains(err.Error(), "apt-get install redis-server") {
		t.Errorf("New without a server on PATH: %v, want an error that says how to install one", err)
	}
}
