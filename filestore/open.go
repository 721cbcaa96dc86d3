package filestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// openFile opens the database, a new one if there is none, with every page checked.
func openFile(path string) (*bolt.DB, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("filestore: the directory %s cannot be made: %w", dir, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("filestore: %s must be a file that this process can read and write, in a directory where it can make files: %w",
			path, err)
	}
	db, err := openLocked(f, path)
	if err != nil {
		f.Close() // bbolt may have done so
	}
	return db, err
}

// openLocked opens the database in f.
func openLocked(f *os.File, path string) (db *bolt.DB, err error) {
	// Before anything is read: of a file that another process writes the pages do not fit together.
	if err := lock(f); err != nil {
		return nil, inUse(path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	created := info.Size() == 0
	if !created {
		if err := check(f, path, info.Size()); err != nil {
			return nil, err
		}
	}
	err = guard(path, func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{
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
	case err != nil && created:
		return nil, fmt.Errorf("filestore: %s could not be made: %w", path, errors.Join(err, empty(path)))
	case err != nil:
		return nil, fmt.Errorf("filestore: %s: %w", path, err)
	}
	if created {
		err = syncDir(filepath.Dir(path)) // the file's name must be on the disk, too
	}
	if err != nil {
		return nil, fmt.Errorf("filestore: %s: %w", path, errors.Join(err, db.Close()))
	}
	return db, nil
}

// empty takes back a file that was not begun as a whole: to whoever comes next it would be a damaged one.
func empty(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if lock(f) != nil {
		return nil // somebody else's by now
	}
	info, err := f.Stat()
	if err != nil || info.Size() >= int64(4*os.Getpagesize()) { // as many as bbolt begins with
		return err
	}
	return f.Truncate(0)
}

func inUse(path string, err error) error {
	return fmt.Errorf("filestore: %s is in use by another process, or is open in this one already: "+
		"a filestore is for one process; sessions that several share belong in Redis (package redisstore) (%w)", path, err)
}

// damaged is the error of a file that was a store.
func damaged(path, what string) error {
	return fmt.Errorf("filestore: %s is damaged: %s. Nothing was changed. Restore a backup in its place; "+
		"to begin without the sessions in it, move the file away", path, what)
}

// foreign is the error of a file that never was one.
func foreign(path, what string) error {
	return fmt.Errorf("filestore: %s is no store of this program: %s. Nothing was changed. Choose another directory, or move the file away", path, what)
}
