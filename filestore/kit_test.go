package filestore_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
)

// verifier is the current verifier of all records in these tests.
var verifier = driver.Hash{1}

// idOf returns the id of the nth session. Its bytes are distributed like those of a hash.
func idOf(n int) driver.ID {
	h := driver.HashOf(strconv.AppendInt(nil, int64(n), 10))
	return driver.ID{Bucket: binary.BigEndian.Uint16(h[14:]), Selector: h}
}

func originOf(n int) *driver.RecordSpec {
	return &driver.RecordSpec{Secret: driver.Secret(idOf(n).Selector), Verifier: verifier, Idle: time.Hour,
		Lifetime: 24 * time.Hour}
}

func set(key, value string) *driver.Change {
	return &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Set, Key: driver.Key(key), Value: []byte(value)}}}
}

func add(key string, n int64) *driver.Change {
	return &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Add, Key: driver.Key(key), Delta: n}}}
}

// open opens a store. It is closed at the end of the test, unless the test has closed it.
func open(t testing.TB, dir string, o filestore.Options) *filestore.Store {
	t.Helper()
	s, err := filestore.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func closeStore(t testing.TB, s *filestore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func create(t testing.TB, s *filestore.Store, n int, c *driver.Change) {
	t.Helper()
	if _, err := s.Create(context.Background(), idOf(n), originOf(n), c); err != nil {
		t.Fatalf("Create: %v", err)
	}
}

// value returns a value of the nth session, "" if it has none. The session must exist.
func value(t testing.TB, s *filestore.Store, n int, key driver.Key) string {
	t.Helper()
	r, _, err := s.Load(context.Background(), idOf(n))
	if err != nil {
		t.Fatalf("session %d: %v", n, err)
	}
	v, _ := r.Fields.Get(key)
	return string(v)
}

func file(dir string) string { return filepath.Join(dir, filestore.FileName) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mustMention checks that an error text has all of these words.
func mustMention(t *testing.T, got string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(got, w) {
			t.Errorf("the error is %q, want one with %q", got, w)
		}
	}
}

// TestMain runs the test binary as a child process if a test has started it so: see child.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		f, ok := roles[role]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such role:", role)
			os.Exit(2)
		}
		if err := f(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
