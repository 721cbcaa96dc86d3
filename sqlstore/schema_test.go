package sqlstore_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/sqlstore"
)

// rowText returns what a row has.
func (p place) rowText(t testing.TB, db *sql.DB, id driver.ID) string {
	t.Helper()
	var metadata, fields []byte
	var expires int64
	row := db.QueryRow("SELECT expires, metadata, fields FROM "+p.table("sessions")+" WHERE id = $1", id.String())
	must(t, row.Scan(&expires, &metadata, &fields))
	return fmt.Sprintf("%d %q %q", expires, metadata, fields)
}

// mustRefuse checks that Open fails with an error that has all these texts.
func (p place) mustRefuse(t testing.TB, texts ...string) {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), p.url, p.options)
	if err == nil {
		s.Close()
		t.Errorf("Open: no error, want one with %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("Open: %v\nwant an error with %q", err, text)
		}
	}
}

// TestNewerSchemaIsRefused: a program does not use tables of a version that it does not know.
func TestNewerSchemaIsRefused(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			p := d.new(t)
			p.open(t)
			_, err := p.db(t).Exec("UPDATE " + p.table("meta") + " SET version = 2")
			must(t, err)
			p.mustRefuse(t, "version 2", "supports 1")
		})
	}
}

// TestOptionsAreChecked: names that would need quoting, and other wrong options, are refused before
// anything is sent.
func TestOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]sqlstore.Options{
		"Options.Prefix": {Prefix: `x"; DROP TABLE y; --`}, "Options.Schema": {Schema: "App"},
		"not 1 to 32": {Prefix: strings.Repeat("x", 33)}, "beginning with no digit": {Prefix: "1x"}, "negative": {Timeout: -1},
	} {
		place{"postgres://127.0.0.1:1/none", o}.mustRefuse(t, want)
		if _, err := sqlstore.Schema(sqlstore.PostgreSQL, o); err == nil {
			t.Errorf("Schema with a wrong option: no error, want %q", want)
		}
	}
	place{"sqlite:none", sqlstore.Options{Schema: "app"}}.mustRefuse(t, "no schemas")
	if _, err := sqlstore.Schema(0, sqlstore.Options{}); err == nil {
		t.Error("Schema of the zero Dialect: no error")
	}
}

// TestRoleWithoutRights: a role that may not create tables gets the SQL. When another role has run
// it, the first one needs only the listed rights, also in a schema of its own.
func TestRoleWithoutRights(t *testing.T) {
	t.Parallel()
	server := shared(t)
	for _, schema := range []string{"", newPrefix() + "schema"} {
		p := place{server.url(), options()}
		role := p.options.Prefix + "role"
		server.do(t, "CREATE ROLE "+role+" LOGIN PASSWORD 'secret'")
		p.url, p.options.Schema = server.urlAs(role, "secret"), schema
		prefix := p.options.Prefix
		if schema != "" {
			p.mustRefuse(t, "schema does not exist", "Options.Schema")
			server.do(t, "CREATE SCHEMA "+schema)
			server.do(t, "GRANT USAGE ON SCHEMA "+schema+" TO "+role)
		}
		p.mustRefuse(t, "lacks a right", "CREATE TABLE", "GRANT SELECT, INSERT, UPDATE, DELETE ON")
		text, err := sqlstore.Schema(sqlstore.PostgreSQL, p.options)
		must(t, err)
		server.do(t, text)
		server.do(t, text) // the SQL changes nothing the second time
		p.mustRefuse(t, "lacks a right")
		for _, table := range []string{"meta", "sessions", "revocations"} {
			if table = prefix + table; schema != "" {
				table = schema + "." + table
			}
			server.do(t, "GRANT SELECT, INSERT, UPDATE, DELETE ON "+table+" TO "+role)
		}
		s := p.open(t)
		mustSignIn(t, s)
		_, err = s.EndUser(t.Context(), ada, driver.Selection{})
		must(t, err)
		must(t, s.EndAll(t.Context()))
		server.do(t, "ALTER ROLE "+role+" SET synchronous_commit = off")
		p.mustRefuse(t, "synchronous_commit")
	}
}

// TestSQLiteFile: the file is readable by its user alone. A file that all users may write is
// refused.
func TestSQLiteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b%?#.db")
	p := place{"sqlite://" + strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23").Replace(path), options()}
	mustCreate(t, p.open(t))
	for _, name := range []string{path, path + "-wal"} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v, want 0600", name, info.Mode())
		}
	}
	must(t, os.Chmod(path, 0o666))
	p.mustRefuse(t, "chmod o-w")
	text := filepath.Join(t.TempDir(), "text")
	must(t, os.WriteFile(text, []byte(strings.Repeat("no database ", 100)), 0o600))
	place{"sqlite://" + text, options()}.mustRefuse(t, "no SQLite database")
}

// TestNewChecksTheDatabaseAndLeavesItOpen: New refuses connections with which changes would be
// lost. Close leaves the application's database open.
func TestNewChecksTheDatabaseAndLeavesItOpen(t *testing.T) {
	file := "file:" + filepath.Join(t.TempDir(), "x.db")
	for want, dsn := range map[string]string{
		"journal_mode": file + "0?_pragma=busy_timeout(1000)",
		"synchronous":  file + "1?_pragma=busy_timeout(1000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)",
		"busy_timeout": file + "2?_pragma=journal_mode(wal)",
	} {
		db, err := sql.Open("sqlite", dsn)
		must(t, err)
		defer db.Close()
		if _, err := sqlstore.New(t.Context(), db, sqlstore.SQLite, options()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v, want an error about %s", err, want)
		}
	}
	p := onPostgres(t)
	db := p.db(t)
	s, err := sqlstore.New(t.Context(), db, sqlstore.PostgreSQL, p.options)
	must(t, err)
	mustCreate(t, s)
	must(t, s.Close())
	must(t, db.Ping())
}

// TestExpiredRowsAreRemoved: several stores remove expired sessions, markers, sessions that EndAll
// ended, and old revocations, and keep the others.
func TestExpiredRowsAreRemoved(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			p := d.new(t)
			s, db := p.open(t), p.db(t)
			for range 2 {
				p.open(t)
			}
			mustCreate(t, s)
			must(t, s.EndAll(t.Context()))
			ended, keep := mustCreate(t, s), mustCreate(t, s)
			must(t, s.End(t.Context(), ended))
			// There are 1,300 expired rows, an expired marker, and an old revocation.
			for _, text := range []string{
				"INSERT INTO {s} (id, epoch, created, expires, metadata) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n " +
					"WHERE i < 1300) SELECT '0000-' || CAST(i AS text), 2, 1, 1, NULL FROM n",
				"UPDATE {s} SET expires = 1 WHERE id = '" + ended.String() + "'",
				"INSERT INTO {r} (owner, revoked) VALUES ('old', 1), ('new', 9000000000000000)",
			} {
				_, err := db.Exec(strings.NewReplacer("{s}", p.table("sessions"), "{r}", p.table("revocations")).Replace(text))
				must(t, err)
			}
			count := func(query string) (n int) {
				must(t, db.QueryRow(query).Scan(&n))
				return n
			}
			for _, table := range []string{"sessions", "revocations"} {
				left := func() int { return count("SELECT count(*) FROM " + p.table(table)) }
				for deadline := time.Now().Add(time.Minute); left() > 1; time.Sleep(20 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s has %d rows, want 1", table, left())
					}
				}
				if n := left(); n != 1 {
					t.Errorf("%s has %d rows, want 1", table, n)
				}
			}
			mustCount(t, s, keep, "1")
		})
	}
}
