//go:build unix

package redistest

import (
	"os"
	"syscall"
)

// The signals that stop a process politely, pause it and let it go on.
var (
	terminate os.Signal = syscall.SIGTERM
	pause     os.Signal = syscall.SIGSTOP
	resume    os.Signal = syscall.SIGCONT
)
