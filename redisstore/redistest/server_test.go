package redistest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

func TestNamed(t *testing.T) {
	for _, s := range redistest.Servers() {
		for _, name := range []string{s.Name, s.Argv[0]} {
			if got, err := redistest.Named(name); err != nil || got.Name != s.Name {
				t.Errorf("Named(%q) = %v, %v", name, got, err)
			}
		}
	}
	if _, err := redistest.Named("redis-1.0"); err == nil || !strings.Contains(err.Error(), "servers/install.sh") {
		t.Errorf("got %v, want an error that names the script", err)
	}
	if _, err := redistest.Named(os.Args[0]); err == nil {
		t.Error("this test is taken for a server")
	}
}

func TestDefault(t *testing.T) {
	for _, s := range redistest.Servers() {
		t.Setenv("COATCHECK_SERVER", s.Name)
		if got, err := redistest.Default(); err != nil || got.Name != s.Name {
			t.Errorf("with COATCHECK_SERVER=%s: %v, %v", s.Name, got, err)
		}
	}
	t.Setenv("COATCHECK_SERVER", "redis-1.0")
	if _, err := redistest.New(redistest.Options{}); err == nil || !strings.Contains(err.Error(), "redis-1.0") {
		t.Errorf("got %v, want an error that names the server", err)
	}
	t.Setenv("COATCHECK_SERVER", "")
	t.Setenv("PATH", t.TempDir())
	_, err := redistest.New(redistest.Options{})
	if err == nil || !strings.Contains(err.Error(), "apt-get install redis-server") {
		t.Errorf("got %v, want an error that says how to install one", err)
	}
}
