//go:build !unix

package redistest

import "os"

// On this system there are no such signals. A server is stopped by killing it, and Pause returns an
// error.
var terminate, pause, resume os.Signal = os.Kill, os.Interrupt, os.Interrupt
