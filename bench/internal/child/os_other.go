//go:build !unix

package child

import (
	"errors"
	"os"
	"time"
)

var interrupts = []os.Signal{os.Interrupt}

func cpuTime() (time.Duration, error) { return 0, errors.ErrUnsupported }
