//go:build unix

package child

import (
	"os"
	"syscall"
	"time"
)

// interrupts are the signals that a terminal sends to both parent and child.
var interrupts = []os.Signal{os.Interrupt, syscall.SIGHUP}

// CPUTime returns the CPU time that this process has used, as counted by the operating system.
func CPUTime() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
