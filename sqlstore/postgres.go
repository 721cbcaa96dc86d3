package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

func openPostgres(ctx context.Context, rawURL string, o Options) (*Store, error) {
	o, err := o.checked(PostgreSQL)
	if err != nil {
		return nil, err
	}
	if err := checkAt(rawURL); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(rawURL)
	if err != nil {
		// The error of pgx quotes the URL, and cannot always tell which part is the password.
		return nil, errors.New("sqlstore: URL: it does not parse: write postgres://user:password@host:5432/database, " +
			"and in a user or password %40 for @, %3A for :, %2F for / and %25 for %. A file that a parameter names must exist")
	}
	return own(ctx, stdlib.OpenDB(*config), PostgreSQL, o)
}

// checkAt refuses a URL with an @ after the host. A password with a slash, a question mark or a
// hash has then ended the host, and the rest of the password would be the name of the database,
// which errors and the server's log quote.
func checkAt(rawURL string) error {
	_, rest, _ := strings.Cut(rawURL, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 && strings.Contains(rest[i:], "@") {
		return errors.New("sqlstore: URL: there is an @ after the host: write %40 for @, " +
			"and in a user or password %2F for /, %3F for ? and %23 for #")
	}
	return nil
}

func (s *Store) checkPostgres(ctx context.Context) error {
	var version, commit, fsync string
	var standby bool
	err := s.db.QueryRowContext(ctx, `SELECT version(), current_setting('synchronous_commit'), current_setting('fsync'), `+
		`pg_is_in_recovery()`).Scan(&version, &commit, &fsync, &standby)
	switch {
	case err != nil:
		return s.explain(err)
	case !strings.HasPrefix(version, "PostgreSQL ") || strings.Contains(version, "-YB-"):
		return fmt.Errorf("sqlstore: the server is not PostgreSQL, but %.40q: its advisory locks may lock nothing", version)
	case standby:
		return errors.New("sqlstore: " + advice["25006"])
	case commit == "off":
		return errors.New("sqlstore: synchronous_commit is off for this role, so a crash would undo sign-outs: " +
			"run ALTER ROLE … SET synchronous_commit = on")
	case fsync == "off":
		s.opt.Logger.WarnContext(ctx, "sqlstore: fsync is off: if the server's machine crashes, the database may be lost")
	}
	return nil
}
