package filestore_test

import (
	"os"
	"os/exec"
	"testing"
)

// roleVariable is the environment variable that makes the test binary a child process with a role.
// Tests lock out, limit and kill such processes.
const roleVariable = "FILESTORE_TEST_ROLE"

var roles = map[string]func(args []string) error{}

// child returns the command that runs the test binary with a role.
func child(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), roleVariable+"="+role)
	return c
}
