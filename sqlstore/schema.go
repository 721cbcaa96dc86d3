package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// schemaVersion is the version of the tables that this program writes.
const schemaVersion = 1

// schemaText creates the tables. All times are microseconds since 1970, by the clock of the
// database server, in SQLite of the process.
const schemaText = `-- One row. All sessions of an epoch below this one have ended: EndAll begins a new epoch.
CREATE TABLE IF NOT EXISTS {meta} (
	version bigint NOT NULL, -- of this schema
	epoch   bigint NOT NULL,
	revoked bigint NOT NULL  -- when the epoch began; 0: never
);
INSERT INTO {meta} (version, epoch, revoked) SELECT {version}, 1, 0 WHERE NOT EXISTS (SELECT 1 FROM {meta});

-- A row is a session, or for a minute the marker of one that ended or was replaced.
CREATE TABLE IF NOT EXISTS {sessions} (
	id       {text} NOT NULL PRIMARY KEY, -- the session's handle; with "~" in place of "-": a user's data
	epoch    bigint NOT NULL,             -- user data: the largest number, so that EndAll does not end it
	owner    {text},                      -- hash of the user's id; NULL: nobody is signed in, or a marker
	created  bigint NOT NULL,
	expires  bigint NOT NULL,
	moved    bigint,                      -- marker: a sign-in replaced the session; until when it says so
	ended    bigint,                      -- marker: when the session ended
	attempt  {bytes},                     -- marker: which call ended it
	metadata {bytes},                     -- NULL: a marker
	fields   {bytes}
);
CREATE INDEX IF NOT EXISTS {expires index} ON {sessions} (epoch, expires);
CREATE INDEX IF NOT EXISTS {owner index} ON {sessions} (owner, created DESC, id DESC) WHERE owner IS NOT NULL;

-- When the sessions of an owner were last revoked. Kept for a day.
CREATE TABLE IF NOT EXISTS {revocations} (
	owner   {text} NOT NULL PRIMARY KEY,
	revoked bigint NOT NULL
);
`

// Schema returns the SQL that creates the tables. Open and New run it themselves, if the role may
// create tables. Otherwise run it as another role, and grant the rights that docs/sql.md lists. The
// SQL changes nothing in tables that exist.
//
// Errors: for an unknown dialect and for invalid Options.
func Schema(d Dialect, o Options) (string, error) {
	o, err := o.checked(d)
	if err != nil {
		return "", err
	}
	text, bytes := `text COLLATE "C"`, "bytea"
	if d == SQLite {
		text, bytes = "text", "blob"
	}
	return strings.NewReplacer(
		"{sessions}", o.table("sessions"), "{revocations}", o.table("revocations"), "{meta}", o.table("meta"),
		"{expires index}", `"`+o.Prefix+`sessions_expires"`, "{owner index}", `"`+o.Prefix+`sessions_owner"`,
		"{text}", text, "{bytes}", bytes, "{version}", fmt.Sprint(schemaVersion),
	).Replace(schemaText), nil
}

// prepareSchema creates the tables if they are missing, and checks their version.
func (s *Store) prepareSchema(ctx context.Context) error {
	version, err := s.readVersion(ctx)
	if err != nil && s.isMissingTable(err) {
		if err = s.createSchema(ctx); err == nil {
			version, err = s.readVersion(ctx)
		}
	}
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("sqlstore: the table %s is empty: run the SQL of sqlstore.Schema", s.opt.table("meta"))
	case err != nil:
		return err
	case version != schemaVersion:
		return fmt.Errorf("sqlstore: the tables have version %d, this program supports %d: "+
			"update the program, or choose another Options.Prefix", version, schemaVersion)
	}
	return nil
}

func (s *Store) readVersion(ctx context.Context) (version int64, err error) {
	err = s.db.QueryRowContext(ctx, s.q.version).Scan(&version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) && !s.isMissingTable(err) {
		err = s.explain(err)
	}
	return version, err
}

// createSchema creates the tables. Processes that start at the same time wait for each other.
func (s *Store) createSchema(ctx context.Context) error {
	text, err := Schema(s.dialect, s.opt)
	if err != nil {
		return err
	}
	err = s.try(ctx, "", func(tx *transaction) error {
		if s.dialect == PostgreSQL {
			if err := tx.exec(s.q.lockAll); err != nil {
				return err
			}
		}
		for statement := range strings.SplitSeq(text, ";\n") {
			if strings.TrimSpace(statement) == "" {
				continue
			}
			if err := tx.exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
	if stateOf(err) == "42501" {
		return fmt.Errorf("sqlstore: the role lacks a right: it may not create tables (%w). Run this as another role:\n\n%s%s",
			err, text, s.grants())
	}
	if err != nil {
		return fmt.Errorf("%w, while creating the tables", s.explain(err))
	}
	return nil
}

// grants returns the SQL that gives a role what the store needs.
func (s *Store) grants() string {
	text := fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s, %s, %s TO role;\n",
		s.opt.table("meta"), s.opt.table("sessions"), s.opt.table("revocations"))
	if s.opt.Schema != "" {
		text = fmt.Sprintf("GRANT USAGE ON SCHEMA %q TO role;\n", s.opt.Schema) + text
	}
	return text
}
