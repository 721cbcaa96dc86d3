package sqlstore_test

import (
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
		Prefix: newPrefix(), Timeout: 2 * time.Minute, MaxConns: 8,
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

// TestStore runs the contract of stores. PostgreSQL has a clock of the test. Its time passes as the
// cases ask, so that no session expires because the machine is slow. The time of SQLite is that of
// the process. In a bubble of synctest its cases about races would take minutes.
func TestStore(t *testing.T) {
	t.Run("PostgreSQL", func(t *testing.T) {
		h := contract(onTestClock)
		h.Wait = waitOnTestClock
		h.Slack = 10 * time.Second // between the waits, the server's clock goes on
		storetest.Run(t, h)
	})
	t.Run("SQLite", func(t *testing.T) {
		h := contract(onSQLite)
		h.Wait = func(_ testing.TB, d time.Duration) { time.Sleep(d) }
		h.Unit = 3 * time.Second // the machine may be slow
		h.Slack = 700 * time.Millisecond
		storetest.Run(t, h)
	})
}

func contract(at func(t testing.TB) place) storetest.Harness {
	open := func(t testing.TB, p place) driver.Store {
		c := testClockOf(t)
		if c != nil {
			p.options.CleanEvery = time.Hour // waitOnTestClock cleans
		}
		s := placedStore{p.open(t), p}
		if c != nil {
			c.stores = append(c.stores, s.Store)
		}
		return s
	}
	again := func(t testing.TB, s driver.Store) driver.Store { return open(t, s.(placedStore).place) }
	return storetest.Harness{
		Open:   func(t testing.TB) driver.Store { return open(t, at(t)) },
		Second: again,
		Reopen: func(t testing.TB, s driver.Store) driver.Store {
			must(t, s.(placedStore).Close())
			if c := testClockOf(t); c != nil {
				c.stores = slices.DeleteFunc(c.stores, func(o *sqlstore.Store) bool { return o == s.(placedStore).Store })
			}
			return again(t, s)
		},
		Len: func(t testing.TB, s driver.Store) (n int) {
			p := s.(placedStore).place
			query := fmt.Sprintf("SELECT count(*) FROM %s WHERE metadata IS NOT NULL", p.table("sessions"))
			must(t, p.db(t).QueryRow(query).Scan(&n))
			return n
		},
		Parallel: true,
	}
}

// testClock is the clock of a case on PostgreSQL: that of the server plus an offset. It is a
// function in the first schema of the search path.
type testClock struct {
	db     *sql.DB
	schema string
	stores []*sqlstore.Store // those that the case has open
}

// testClocks are the clocks of the cases, by the names of their tests.
var testClocks sync.Map

// testClockOf returns the clock of a case, or nil.
func testClockOf(t testing.TB) *testClock {
	c, _ := testClocks.Load(t.Name())
	clock, _ := c.(*testClock)
	return clock
}

func onTestClock(t testing.TB) place {
	c := &testClock{db: place{url: shared(t).socketURL()}.db(t), schema: newPrefix() + "clock"}
	_, err := c.db.Exec(strings.ReplaceAll(`CREATE SCHEMA {s};
CREATE TABLE {s}.ahead (ahead interval NOT NULL);
INSERT INTO {s}.ahead VALUES ('0');
CREATE FUNCTION {s}.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS
$$ BEGIN RETURN pg_catalog.clock_timestamp() + (SELECT ahead FROM {s}.ahead); END $$`, "{s}", c.schema))
	must(t, err)
	testClocks.Store(t.Name(), c)
	return place{shared(t).socketURL("search_path=" + c.schema + ",pg_catalog"), options()}
}

// waitOnTestClock moves the clock of a case forward. As with a cleaning each minute, rows that
// expired more than a minute before the end of a wait are removed.
func waitOnTestClock(t testing.TB, d time.Duration) {
	if d < 10*time.Millisecond {
		time.Sleep(d)
		return
	}
	c := testClockOf(t)
	last := min(d, time.Minute)
	advance := func(d time.Duration) {
		_, err := c.db.Exec(fmt.Sprintf("UPDATE %s.ahead SET ahead = ahead + interval '%d microseconds'", c.schema, d.Microseconds()))
		must(t, err)
	}
	if d > last {
		advance(d - last)
	}
	for _, s := range c.stores {
		must(t, s.Clean(t.Context()))
	}
	advance(last)
}
