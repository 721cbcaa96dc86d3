package redistest

import (
	"os/exec"
	"syscall"
)

// tie has the kernel kill the child when the thread that starts it ends, and makes a process group
// of it and of the children that a server has while it writes its data to disk.
func tie(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// killTied kills the child, which has not been waited for, and its children.
func killTied(cmd *exec.Cmd) error {
	return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}
