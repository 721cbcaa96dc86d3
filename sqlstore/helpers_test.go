package sqlstore_test

import (
	"crypto/rand"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// roleVariable is the environment variable that makes the test binary a child process with a role.
const roleVariable = "SQLSTORE_TEST_ROLE"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cutSQLite returns the path in a URL of SQLite.
func cutSQLite(url string) (path string, ok bool) { return strings.CutPrefix(url, "sqlite://") }

// memoryDir returns a folder whose disk does not limit the speed of a test, if there is one.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sqlstore") //nolint:usetesting // t.TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newHash() driver.Hash {
	var b [16]byte
	rand.Read(b[:])
	return driver.HashOf(b[:])
}

// verifier is the hash of the verifier of all sessions of these tests.
var verifier = driver.HashOf([]byte("verifier"))

func newID() driver.ID { return driver.ID{Bucket: 0x1a2b, Selector: newHash()} }

func spec(id driver.ID) *driver.RecordSpec {
	return &driver.RecordSpec{
		Secret: driver.Secret(id.Selector), Verifier: verifier, Idle: time.Hour, Lifetime: 24 * time.Hour,
	}
}

// increment adds 1 to the field n.
func increment() *driver.Change {
	return &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
}

// mustCreate creates a session whose field n is 1.
func mustCreate(t testing.TB, s driver.Store) driver.ID {
	t.Helper()
	id := newID()
	_, err := s.Create(t.Context(), id, spec(id), increment())
	must(t, err)
	return id
}

// mustCount checks the field n of a session.
func mustCount(t testing.TB, s driver.Store, id driver.ID, want string) {
	t.Helper()
	r, _, err := s.Load(t.Context(), id)
	must(t, err)
	if n, _ := r.Fields.Get("n"); string(n) != want {
		t.Errorf("the count is %s, want %s", n, want)
	}
}

var ada = driver.HashOf([]byte("ada"))

// signIn returns a sign-in of ada.
func signIn() (driver.ID, *driver.SignIn) {
	id := driver.ID{Bucket: driver.BucketOf(ada), Selector: newHash()}
	in := &driver.SignIn{Spec: *spec(id), Change: *increment()}
	in.Spec.Principal = &driver.Principal{User: "ada", Owner: ada, Methods: []string{"pwd"}}
	return id, in
}

func mustSignIn(t testing.TB, s driver.UserStore) driver.ID {
	t.Helper()
	id, in := signIn()
	_, err := s.SignIn(t.Context(), id, in)
	must(t, err)
	return id
}

// concurrently calls f(0) to f(n-1) at the same time.
func concurrently(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}
