package sqlstore_test

import "syscall"

// tied has the kernel kill a server when the thread that started it ends.
func tied() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(), Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
