package redistest

import (
	"os/exec"
	"syscall"
)

// tie has the kernel kill the child when the thread that starts it ends. The child leads a process
// group, which includes the children that a server starts to write its data to disk.
func tie(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// killTied kills the child, which must not have been waited for, and its children.
func killTied(cmd *exec.Cmd) error {
	return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}
