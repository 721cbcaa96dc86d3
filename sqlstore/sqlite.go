package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"runtime"
	"sync"

	_ "modernc.org/sqlite" // the driver
)

func openSQLite(ctx context.Context, rest string, o Options) (*Store, error) {
	o, err := o.checked(SQLite)
	if err != nil {
		return nil, err
	}
	path, err := sqlitePath(rest)
	if err != nil {
		return nil, err
	}
	if err := prepareFile(path); err != nil {
		return nil, err
	}
	parameters := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", o.Timeout.Milliseconds()), "journal_mode(wal)", "synchronous(full)",
	}}
	name := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: parameters.Encode()}).String()
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return own(ctx, db, SQLite, o)
}

// creating keeps a file that is being created from being opened.
var creating sync.Mutex

// prepareFile creates the file if it is missing, so that others cannot read it. It refuses a file
// that all users may write, because who writes it can sign in as any user.
//
// It never opens an existing file: closing it would release all locks that this process has on it.
func prepareFile(path string) error {
	creating.Lock()
	defer creating.Unlock()
	const create = os.O_CREATE | os.O_EXCL | os.O_RDWR
	f, err := os.OpenFile(path, create, 0o600) //nolint:gosec // as configured
	if err == nil {
		err = f.Close()
	} else if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	info, err := os.Stat(path) //nolint:gosec // as configured
	switch {
	case err != nil:
		return fmt.Errorf("sqlstore: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("sqlstore: %s is no regular file", path)
	case runtime.GOOS != "windows" && info.Mode()&0o002 != 0:
		return fmt.Errorf("sqlstore: all users of this machine may write %s, and so sign in as anybody: run chmod o-w %[1]s", path)
	}
	return nil
}

func (s *Store) checkSQLite(ctx context.Context) error {
	var journal string
	var synchronous, timeout int
	for pragma, into := range map[string]any{
		"journal_mode": &journal, "synchronous": &synchronous, "busy_timeout": &timeout,
	} {
		if err := s.db.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(into); err != nil {
			return s.explain(err)
		}
	}
	switch {
	case journal != "wal":
		return errors.New("sqlstore: journal_mode is " + journal + ", not wal: readers and writers would lock each other out")
	case synchronous < 2: // full
		return errors.New("sqlstore: synchronous is below full, so a power cut would undo sign-outs: set it for each connection")
	case timeout == 0:
		return errors.New("sqlstore: busy_timeout is 0, so concurrent writes would fail: set it for each connection")
	}
	return nil
}
