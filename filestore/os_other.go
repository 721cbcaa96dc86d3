//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package filestore

import "os"

// renamesOpen reports whether the system can rename an open file.
const renamesOpen = false

// lock does nothing: bbolt locks the file, but only after it was checked. A second process may
// therefore get the error that the file is damaged, not that it is in use.
func lock(*os.File) error { return nil }

// syncDir does nothing: it is not needed, or not possible, on these systems.
func syncDir(string) error { return nil }
