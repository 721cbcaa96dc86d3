package sqlstore

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"modernc.org/sqlite"
)

// stateOf returns the SQLSTATE of an error of PostgreSQL. pgx and lib/pq have the method.
func stateOf(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// isTransient reports that a transaction failed before its commit, and may succeed at once: the
// database aborted it, or the connection broke.
func (s *Store) isTransient(err error) bool {
	if s.dialect == SQLite || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sql.ErrTxDone) {
		return false // a wait for SQLite's lock has already taken the whole time
	}
	switch state := stateOf(err); state {
	case "40001", "40P01": // serialization failure, deadlock
		return true
	case "57P01", "57P02", "57P03": // the server stops or starts
		return true
	case "":
		var op *net.OpError
		return errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
			errors.Is(err, sqldriver.ErrBadConn) || errors.Is(err, os.ErrClosed)
	}
	return false
}

// isAborted reports that the database answered a COMMIT with an error that undid the transaction.
// PostgreSQL may send an error of another class after it has committed: 57P01 when it is stopped
// while it waits for a standby.
func (s *Store) isAborted(err error) bool {
	switch state := stateOf(err); {
	case state == "40003": // statement completion unknown
		return false
	case strings.HasPrefix(state, "40"), strings.HasPrefix(state, "23"), strings.HasPrefix(state, "25"):
		return true
	}
	return s.dialect == SQLite && sqliteCode(err) == sqliteBusy
}

// Result codes of SQLite, without their extension.
const (
	sqliteError    = 1
	sqliteBusy     = 5
	sqliteReadOnly = 8
	sqliteFull     = 13
	sqliteCantOpen = 14
	sqliteNotADB   = 26
)

// sqliteCode returns the primary result code of an error of SQLite, or 0.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// isMissingTable reports that a statement names a table that does not exist.
func (s *Store) isMissingTable(err error) bool {
	if s.dialect == SQLite {
		return strings.Contains(err.Error(), "no such table")
	}
	return stateOf(err) == "42P01"
}

// advice tells an operator what to do about errors of PostgreSQL.
var advice = map[string]string{
	"25006": "the server is a standby: name the primary, or several hosts and target_session_attrs=read-write",
	"26000": "the server does not know a prepared statement, probably because of a pooler: add default_query_exec_mode=exec to the URL",
	"28000": "the server refuses this user",
	"28P01": "user or password is wrong",
	"3D000": "the database does not exist",
	"3F000": "the schema does not exist: create it, or correct Options.Schema",
	"42501": "the role lacks a right: see docs/sql.md",
	"42P01": "a table is missing: run the SQL of sqlstore.Schema",
	"42P05": "a prepared statement exists already, probably because of a pooler: add default_query_exec_mode=exec to the URL",
	"53100": "the server's disk is full",
	"53300": "the server has too many connections: lower Options.MaxConns, or raise max_connections",
}

var sqliteAdvice = map[int]string{
	sqliteBusy:     "another program holds the lock of the database",
	sqliteReadOnly: "the database is read-only: the program must be able to write the file and its folder",
	sqliteFull:     "the disk is full",
	sqliteCantOpen: "the file cannot be opened: its folder must exist and be writable",
	sqliteNotADB:   "the file is no SQLite database",
}

// explain says whose error it is, and what an operator can do. The store's errors are text: those
// of the database's driver are not part of its promises, except for those of a context.
func (s *Store) explain(err error) error {
	text := advice[stateOf(err)]
	if s.dialect == SQLite {
		text = sqliteAdvice[sqliteCode(err)]
	}
	if text != "" {
		return fmt.Errorf("sqlstore: %s (%w)", text, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("sqlstore: %s did not answer in time: %w", s.dialect, err)
	}
	return fmt.Errorf("sqlstore: %s: %w", s.dialect, err)
}
