package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Open opens the store that a URL names, and creates its tables if they are missing.
//
//	postgres://user:password@host:5432/database?sslmode=verify-full
//	postgresql://host1,host2/database?target_session_attrs=read-write
//	sqlite:///var/lib/app/sessions.db
//	sqlite:sessions.db
//
// A URL of PostgreSQL has the parameters of libpq and of pgx; sslrootcert and
// default_query_exec_mode are examples. In a user or password, write %40 for @, %3A for : and %2F
// for /. SQLite keeps two more files beside the database while it is open. Use no network file
// system for it.
//
// ctx bounds the opening. The error says what is wrong and how to fix it, and quotes no password.
func Open(ctx context.Context, rawURL string, o Options) (*Store, error) {
	scheme, rest, _ := strings.Cut(rawURL, ":")
	switch scheme {
	case "postgres", "postgresql":
		return openPostgres(ctx, rawURL, o)
	case "sqlite":
		return openSQLite(ctx, rest, o)
	}
	return nil, errors.New("sqlstore: URL: the scheme is not postgres://, postgresql:// or sqlite:, as in sqlite:PATH")
}

// New is Open with a database of the application, which Close leaves open. The application chooses
// the settings of its connections. New refuses those with which changes would be lost. Its errors
// are those of Open.
//
// The driver must be that of pgx (github.com/jackc/pgx/v5/stdlib) or modernc.org/sqlite. Others are
// not tested. In SQLite, set journal_mode, synchronous and busy_timeout for all connections.
func New(ctx context.Context, db *sql.DB, d Dialect, o Options) (*Store, error) {
	o, err := o.checked(d)
	if err != nil {
		return nil, err
	}
	return newStore(ctx, db, d, o)
}

func newStore(ctx context.Context, db *sql.DB, d Dialect, o Options) (*Store, error) {
	s := &Store{db: db, dialect: d, opt: o, q: newStatements(d, &o), ended: make(chan struct{}, 1)}
	if d == SQLite {
		s.writer = make(chan struct{}, 1)
	} else {
		// The default of the role may be another level.
		s.txOptions = &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	if err := s.prepareSchema(ctx); err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.work.Go(func() { s.runCleaning(background) })
	return s, nil
}

// check refuses databases on which the store would break its promises.
func (s *Store) check(ctx context.Context) error {
	if s.dialect == SQLite {
		return s.checkSQLite(ctx)
	}
	return s.checkPostgres(ctx)
}

// Close stops the work in the background. It closes the connections that Open has made. Operations
// under way may fail.
func (s *Store) Close() error {
	s.stop()
	s.work.Wait()
	if !s.ownsDB {
		return nil
	}
	return s.db.Close()
}

// own makes Close close the database, which has at most MaxConns connections.
func own(ctx context.Context, db *sql.DB, d Dialect, o Options) (*Store, error) {
	db.SetMaxOpenConns(o.MaxConns)
	db.SetMaxIdleConns(o.MaxConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	s, err := newStore(ctx, db, d, o)
	if err != nil {
		db.Close()
		return nil, err
	}
	s.ownsDB = true
	return s, nil
}

// sqlitePath returns the path in the URL sqlite:PATH or sqlite:///PATH.
func sqlitePath(rest string) (string, error) {
	if strings.ContainsAny(rest, "?#") {
		return "", errors.New("sqlstore: URL: sqlite: takes a path only: in a path, write %3F for ? and %23 for #")
	}
	if after, hasHost := strings.CutPrefix(rest, "//"); hasHost {
		if !strings.HasPrefix(after, "/") {
			return "", errors.New("sqlstore: URL: write sqlite:///PATH for an absolute path and sqlite:PATH for a relative one")
		}
		rest = after
	}
	path, err := url.PathUnescape(rest)
	if err != nil {
		return "", errors.New("sqlstore: URL: the path is not percent-encoded: write %25 for %")
	}
	if path == "" || strings.HasPrefix(path, ":") {
		return "", fmt.Errorf("sqlstore: URL: %q is no path of a file: for sessions in memory use package memstore", path)
	}
	return path, nil
}
