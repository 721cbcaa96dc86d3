package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// errUnsafe is matched by the errors for a path at which another user may have put a file.
var errUnsafe = errors.New("it may be another user's")

// checkMode returns an error if all users may write a file or directory: they could sign in as any
// user, and end any session. The permissions of a group are the administrator's choice. On Windows
// the mode does not show who may write.
func checkMode(path string, info fs.FileInfo) error {
	if runtime.GOOS == "windows" || info.Mode().Perm()&0o002 == 0 {
		return nil
	}
	return fmt.Errorf("filestore: all users of this machine may write %s (mode %04o): "+
		"check that nobody has changed it, and run %q", path, info.Mode().Perm(), "chmod o-w "+path)
}

// openRegular opens an existing file for reading and writing. It follows no link, and it never
// waits, as an open of a named pipe can.
func openRegular(path string) (*os.File, error) {
	f, err := openNoFollow(path, os.O_RDWR, 0)
	if err != nil {
		// The error for a link depends on the system.
		if info, lerr := os.Lstat(path); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, fmt.Errorf("filestore: %s is a symbolic link, which Open does not follow: remove the link; "+
				"if its target is the store, open the target's directory (%w)", path, errUnsafe)
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("filestore: %s is not a regular file: remove it (%w)", path, errUnsafe)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// createLocked creates and locks the file name, in which the database of path is made. The file is
// always a new one. What a crash left behind under the name is removed: another user may have
// written it, or may have it open.
func createLocked(name, path string) (*os.File, error) {
	const tries = 100 // other processes can come in between as often as they are started
	for range tries {
		f, err := openNoFollow(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		created := err == nil
		if errors.Is(err, fs.ErrExist) {
			if name == path {
				return nil, inUse(path, err) // another process has created it
			}
			f, err = openRegular(name)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist): // another process has renamed or removed it
			continue
		case errors.Is(err, errUnsafe):
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("filestore: this process must be able to create files in the directory: %w", err)
		}
		if err := lock(f); err != nil {
			f.Close()
			return nil, inUse(path, err)
		}
		// Before the lock, another process may have renamed or removed the file.
		if !hasName(f, name) {
			f.Close()
			continue
		}
		if created {
			return f, nil
		}
		err = os.Remove(name) // under the lock: no process is at work on it
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("filestore: %w", err)
		}
	}
	return nil, inUse(path, errors.New("other processes keep creating it"))
}

// hasName reports whether f is the file with this name.
func hasName(f *os.File, name string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(name)
	return err == nil && os.SameFile(opened, named)
}
