//go:build !unix

package redistest

import "os"

// There are no such signals here: a server is stopped by killing it, and Pause returns an error.
var terminate, pause, resume os.Signal = os.Kill, os.Interrupt, os.Interrupt
