//go:build !unix

package child

import (
	"errors"
	"os"
	"time"
)

var interrupts = []os.Signal{os.Interrupt}

// CPUTime is not supported on this system.
func CPUTime() (time.Duration, error) { return 0, errors.ErrUnsupported }
