package sqlstore_test

import (
	"os"
	"strings"
	"testing"
)

// roleVariable is the environment variable that makes the test binary a child process with a role.
const roleVariable = "SQLSTORE_TEST_ROLE"

func runChild(role string) int { panic(role) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cutSQLite returns the path in a URL of SQLite.
func cutSQLite(url string) (path string, ok bool) { return strings.CutPrefix(url, "sqlite://") }

// memoryDir returns a folder whose disk does not limit the speed of a test, if there is one.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sqlstore") //nolint:usetesting // t.TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
