//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package filestore

import "os"

const renamesOpen = false

// lock is left to bbolt, which locks the file after it was checked: a second process may then be told that the file is
// damaged, not that it is in use.
func lock(*os.File) error { return nil }

// syncDir is not needed, or not possible, on these systems.
func syncDir(string) error { return nil }
