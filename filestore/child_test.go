package filestore_test

import (
	"os"
	"os/exec"
	"testing"
)

// roleVariable makes the test binary a child with the role of this name: a real process, to be locked out, limited and killed.
const roleVariable = "FILESTORE_TEST_ROLE"

var roles = map[string]func(args []string) error{}

// child returns the command that runs the test binary in a role.
func child(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), roleVariable+"="+role)
	return c
}
