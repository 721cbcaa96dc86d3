//go:build unix && !linux

package sqlstore_test

import "syscall"

// tied does not tie a server to this process: a killed test leaves it running.
func tied() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(), Setpgid: true}
}
