package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// openFile opens the database and checks every page. It creates a missing database.
func openFile(path string) (*bolt.DB, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("filestore: the directory %s cannot be created: %w", dir, err)
	}
	// The caller chose the directory, so it may be a link. The files in it may not.
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	if err := checkMode(dir, info); err != nil {
		return nil, err
	}
	f, err := openRegular(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return create(path)
	case errors.Is(err, errUnsafe):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("filestore: %s must be a file that this process may read and write: %w", path, err)
	}
	db, err := openExisting(f, path)
	if err != nil {
		f.Close() // bbolt may have done so
	}
	return db, err
}

func openExisting(f *os.File, path string) (*bolt.DB, error) {
	// Lock before reading: the pages of a file that another process writes are not consistent.
	if err := lock(f); err != nil {
		return nil, inUse(path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	if err := checkMode(path, info); err != nil {
		return nil, err
	}
	if err := check(f, path, info.Size()); err != nil {
		return nil, err
	}
	return openDB(f, path)
}

// create creates a database under a temporary name and renames it when it is complete. So a crash
// never leaves an empty or incomplete file under the final name. The lock on the temporary file
// prevents two processes from creating it at the same time.
func create(path string) (*bolt.DB, error) {
	name := path
	if renamesOpen {
		name += ".new"
	}
	f, err := createLocked(name, path)
	if err != nil {
		return nil, err
	}
	db, err := fill(f, name, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return db, nil
}

// fill creates the database in a new, locked file.
func fill(f *os.File, name, path string) (*bolt.DB, error) {
	if _, err := os.Lstat(path); name != path && !errors.Is(err, fs.ErrNotExist) {
		return nil, inUse(path, errors.Join(err, os.Remove(name))) // another process has created it
	}
	db, err := openDB(f, path)
	if err != nil {
		return nil, err
	}
	if err = makeBuckets(db); err == nil && name != path {
		err = os.Rename(name, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path)) // the name must be durable, too
	}
	if err != nil {
		return nil, fmt.Errorf("filestore: %s could not be created: %w", path, errors.Join(err, db.Close()))
	}
	return db, nil
}

// openDB opens the database in a locked file, which is either checked or empty.
func openDB(f *os.File, path string) (db *bolt.DB, err error) {
	err = guard(path, func() (err error) {
		db, err = bolt.Open(f.Name(), 0o600, &bolt.Options{
			OpenFile:       func(string, int, os.FileMode) (*os.File, error) { return f, nil },
			Timeout:        time.Second,
			FreelistType:   bolt.FreelistMapType,
			NoFreelistSync: true,
			NoStatistics:   true,
		})
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, inUse(path, err)
	case err != nil:
		return nil, fmt.Errorf("filestore: opening %s: %w", path, err)
	}
	return db, nil
}

func inUse(path string, err error) error {
	return fmt.Errorf("filestore: %s is in use by another process, or already open in this one: "+
		"a filestore is for one process; sessions that several processes share belong in Redis "+
		"(package redisstore) (%w)", path, err)
}

// damaged returns the error for a damaged store.
func damaged(path, what string) error {
	return fmt.Errorf("filestore: %s is damaged: %s. Nothing was changed. Restore a backup in its place; "+
		"to start without these sessions, move the file away", path, what)
}

// notAStore returns the error for a file of another program or version.
func notAStore(path, what string) error {
	return fmt.Errorf("filestore: %s is not a store of this program: %s. Nothing was changed. "+
		"Choose another directory, or move the file away", path, what)
}
