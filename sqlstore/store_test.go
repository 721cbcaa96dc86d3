package sqlstore_test

import (
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/sqlstore"
	"github.com/coatcheck-go/session/storetest"
)

// place is where a store is: its URL and options.
type place struct {
	url     string
	options sqlstore.Options
}

// placedStore is a store with its place, which a second store on the same data needs.
type placedStore struct {
	*sqlstore.Store
	place place
}

// databases returns a new place in a database. Each is what a test runs on.
var databases = []struct {
	name string
	new  func(t testing.TB) place
}{
	{"PostgreSQL", onPostgres},
	{"SQLite", onSQLite},
	{"PostgreSQL without prepared statements", onPooler},
}

func onPostgres(t testing.TB) place {
	return place{shared(t).socketURL(), options()}
}

func onSQLite(t testing.TB) place {
	return place{"sqlite://" + filepath.Join(memoryDir(t), "sessions.db"), options()}
}

func options() sqlstore.Options {
	return sqlstore.Options{
		Prefix: newPrefix(), Timeout: 30 * time.Second, MaxConns: 8,
		CleanEvery: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
}

// open opens a store and closes it when the test ends.
func (p place) open(t testing.TB) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), p.url, p.options)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// db returns the tables of the place.
func (p place) db(t testing.TB) *sql.DB {
	t.Helper()
	name, dsn := "pgx", p.url
	if path, ok := cutSQLite(p.url); ok {
		name, dsn = "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(name, dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// table returns the name of a table.
func (p place) table(name string) string { return p.options.Prefix + name }

// onPooler is PostgreSQL as a pooler in transaction mode needs it.
func onPooler(t testing.TB) place {
	return place{shared(t).socketURL("default_query_exec_mode=exec"), options()}
}

// TestStore runs the contract of stores.
func TestStore(t *testing.T) {
	for _, d := range databases[:2] {
		t.Run(d.name, func(t *testing.T) { runContract(t, d.new) })
	}
}

func runContract(t *testing.T, at func(t testing.TB) place) {
	again := func(t testing.TB, s driver.Store) driver.Store {
		p := s.(placedStore).place
		return placedStore{p.open(t), p}
	}
	storetest.Run(t, storetest.Harness{
		Open: func(t testing.TB) driver.Store {
			p := at(t)
			return placedStore{p.open(t), p}
		},
		Second: again,
		Reopen: func(t testing.TB, s driver.Store) driver.Store {
			must(t, s.(placedStore).Close())
			return again(t, s)
		},
		Len: func(t testing.TB, s driver.Store) (n int) {
			p := s.(placedStore).place
			query := fmt.Sprintf("SELECT count(*) FROM %s WHERE metadata IS NOT NULL", p.table("sessions"))
			must(t, p.db(t).QueryRow(query).Scan(&n))
			return n
		},
		Wait:     func(_ testing.TB, d time.Duration) { time.Sleep(d) },
		Unit:     3 * time.Second, // the machine may be slow
		Slack:    700 * time.Millisecond,
		Parallel: true,
	})
}
