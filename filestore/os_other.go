//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package filestore

import (
	"errors"
	"io/fs"
	"os"
)

// renamesOpen reports whether the system can rename an open file.
const renamesOpen = false

// openNoFollow opens a file. It returns an error if the last part of the path is a link or a named
// pipe. These systems have no flag for that, so the check comes before the open.
func openNoFollow(path string, flag int, perm os.FileMode) (*os.File, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&(fs.ModeSymlink|fs.ModeNamedPipe) != 0 {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNoFile}
	}
	return os.OpenFile(path, flag, perm)
}

var errNoFile = errors.New("it is a link or a named pipe")

// lock does nothing: bbolt locks the file, but only after it was checked. A second process may
// therefore get the error that the file is damaged, not that it is in use.
func lock(*os.File) error { return nil }

// syncDir does nothing: it is not needed, or not possible, on these systems.
func syncDir(string) error { return nil }
