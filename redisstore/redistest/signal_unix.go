//go:build unix

package redistest

import (
	"os"
	"syscall"
)

// Signals that shut a process down, pause it and resume it.
var (
	terminate os.Signal = syscall.SIGTERM
	pause     os.Signal = syscall.SIGSTOP
	resume    os.Signal = syscall.SIGCONT
)
