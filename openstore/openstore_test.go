package openstore_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/openstore"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// mustOpen opens a store that is closed after the test.
func mustOpen(t *testing.T, address string) openstore.Store {
	t.Helper()
	s, err := openstore.Open(t.Context(), address)
	if err != nil {
		t.Fatalf("Open(%q): %v", address, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// mustHaveAbilities checks that a store has what all stores of this repository can do.
func mustHaveAbilities(t *testing.T, s openstore.Store) {
	t.Helper()
	for name, has := range map[string]bool{
		"UserStore":      is[driver.UserStore](s),
		"Clock":          is[driver.Clock](s),
		"Feed":           is[driver.Feed](s),
		"ExpiryReporter": is[driver.ExpiryReporter](s),
		"EndReporter":    is[driver.EndReporter](s),
	} {
		if !has {
			t.Errorf("the %T is no driver.%s", s, name)
		}
	}
}

func is[T any](s any) bool { _, ok := s.(T); return ok }

// TestOpenReturnsTheStoreOfTheScheme opens a store with each form of URL. The store has the type,
// and so the abilities, that its own package returns.
func TestOpenReturnsTheStoreOfTheScheme(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		for _, address := range []string{"memory:", "memory://", "Memory:"} {
			if s := mustOpen(t, address); !is[*memstore.Store](s) {
				t.Errorf("%s opens a %T", address, s)
			} else {
				mustHaveAbilities(t, s)
			}
		}
	})
	t.Run("file", func(t *testing.T) {
		t.Chdir(t.TempDir())
		dir := filepath.ToSlash(t.TempDir())
		for address, file := range map[string]string{
			"file:data":                             "data",
			"file:./a%20b%3F":                       "a b?",
			"file:deep/in?durability=interval":      "deep/in",
			"file:" + dir + "/one":                  dir + "/one",
			"file://" + dir + "/two?every=2s":       dir + "/two",
			"file:#1?durability=always&every=500ms": "#1",
		} {
			if s := mustOpen(t, address); !is[*filestore.Store](s) {
				t.Errorf("%s opens a %T", address, s)
			} else {
				mustHaveAbilities(t, s)
			}
			if _, err := os.Stat(filepath.Join(file, filestore.FileName)); err != nil {
				t.Errorf("%s: %v", address, err)
			}
		}
	})
	t.Run("redis", func(t *testing.T) {
		const password = "s3cr?t/@:%&#"
		node := redistest.Start(t, redistest.Options{Users: []string{"app on >" + password + " ~* &* +@all", "default off"}})
		credentials := url.UserPassword("app", password).String() + "@"
		for address, near := range map[string]bool{
			"redis://" + credentials + node.Addr():                                      true,
			"REDIS://" + credentials + node.Addr() + "/1?near_cache=1MiB":               true,
			"redis://" + credentials + node.Addr() + "?near_cache=0&db=2&namespace=a.b": false,
			"redis+unix://" + credentials + node.Socket() + "?db=3&near_cache=0":        false,
		} {
			s := mustOpen(t, address)
			mustHaveAbilities(t, s)
			if r, ok := s.(*redisstore.Store); !ok {
				t.Errorf("%s opens a %T", address, s)
			} else if _, has := r.Near(); has != near {
				t.Errorf("%s opens a store with near cache: %v, want %v", address, has, near)
			}
		}
	})
	t.Run("all that redisstore accepts", func(t *testing.T) {
		for _, scheme := range []string{"redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"} {
			_, err := openstore.Open(t.Context(), scheme+"://a:0/name?timeout=1s")
			if err == nil || !strings.HasPrefix(err.Error(), "redisstore: URL: ") || strings.Contains(err.Error(), "scheme") {
				t.Errorf("%s: %v, want redisstore's error about the rest of the URL", scheme, err)
			}
		}
	})
}

// TestErrorSaysWhatToDoWithoutPassword opens stores with wrong URLs.
func TestErrorSaysWhatToDoWithoutPassword(t *testing.T) {
	t.Chdir(t.TempDir())
	const server = "redis://app:hunter2@localhost:1"
	for _, c := range []struct{ url, want string }{
		{"", "it is empty: use memory:, file:DIR or redis://HOST"},
		{"./data", "no scheme: use memory:, file:DIR or redis://HOST. Did you mean file:./data?"},
		{"hunter2@cache", "it has no scheme"},
		{"hunter2@cache:6379", "does not begin with a scheme"},
		{"memcached://app:hunter2@cache", `unknown scheme "memcached". The schemes are file, memory, redis, redis+cluster, `},
		{"reddis://app:hunter2@cache", `unknown scheme "reddis". Did you mean "redis"? The schemes are`},
		{"valkey://app:hunter2@cache", "Use redis:// for Valkey as well. The schemes are"},
		{"postgres://app:hunter2@db/app", `must import _ "github.com/coatcheck-go/session/sqlstore"`},
		{"sqlite:hunter2.db", `must import _ "github.com/coatcheck-go/session/sqlstore"`},
		{"memory:hunter2", "nothing after the colon"},
		{"memory:?durability=hunter2", "nothing after the colon"},
		{"file:", "needs a directory"},
		{"file://", "needs a directory"},
		{"file://hunter2/x", "write file:DIR or file:///DIR"},
		{"file:100%", "write %25 for %"},
		{"file:x?durabilty=always", `unknown option: "durabilty"; did you mean "durability"? The options are durability, every`},
		{"file:x?durability=hunter2", "the option durability: use always or interval"},
		{"file:x?every=2h", "filestore: Options.Every: 2h0m0s is not between"},
		{"redis:app:hunter2@cache", "redis: needs two slashes and a host, such as redis://localhost"},
		{"redis://app:hunt?er2@cache", "write %40 for @, and in a user or password %3F for ?"},
		{"redis://app:hunt?er2", "unknown option: the options are events, fsync, lease, max_age, namespace, "},
		{server + "?hunter2=1", "unknown option: the options are events, "},
		{server + "?time_out=hunter2", `unknown option: "time_out"; did you mean "timeout"? The options are events, `},
		{server + "?sentinel_pasword=hunter2", `did you mean "sentinel_password"?`},
		{server + "?timeout=2", "the option timeout: use a duration above zero, such as 500ms or 2s"},
		{server + "?timeout=0s", "the option timeout: use a duration above zero"},
		{server + "?timeout=", "the option timeout is empty"},
		{server + "?timeout=1s&timeout=2s", "the option timeout occurs twice"},
		{server + "?timeout=%zz", `the text after "?" is not name=value`},
		{server + "?timeout=1ms", "redisstore: Options.Timeout is 1ms"},
		{server + "?replicas=-1", "the option replicas: use a number"},
		{server + "?fsync=yes", "the option fsync: use true or false"},
		{server + "?near_cache=64MB", "the option near_cache: use a number of bytes, or one with KiB, MiB or GiB"},
		{server + "?near_cache=99999999999GiB", "the option near_cache: use a number of bytes"},
		{server + "?sentinel_user=hunter2", "redisstore: URL: unknown parameter"},
		{server, "redisstore: no connection"},
	} {
		s, err := openstore.Open(t.Context(), c.url)
		if s != nil {
			t.Errorf("Open(%q) returns a store", c.url)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunt") ||
			strings.Contains(err.Error(), "er2") {
			t.Errorf("Open(%q): %v, want an error with %q and no password", c.url, err, c.want)
			continue
		}
		own := !strings.HasPrefix(err.Error(), "redisstore: ") && !strings.HasPrefix(err.Error(), "filestore: ")
		if errors.Is(err, openstore.ErrURL) != own {
			t.Errorf("Open(%q): %v: it is ErrURL: %v, want %v", c.url, err, !own, own)
		}
	}
	if files, _ := filepath.Glob("*"); len(files) > 0 {
		t.Errorf("failed calls of Open created %q", files)
	}
}

// TestRegisteredSchemeOpensItsStore registers a scheme as another module does.
func TestRegisteredSchemeOpensItsStore(t *testing.T) {
	var got *url.URL
	open := func(_ context.Context, u *url.URL) (openstore.Store, error) {
		got = u
		return memstore.New(), nil
	}
	openstore.Register("x-table", open)
	mustOpen(t, "X-Table://app:s3cret@db:5432/app?sslmode=require")
	if password, _ := got.User.Password(); password != "s3cret" || got.Host != "db:5432" || got.Query().Get("sslmode") != "require" {
		t.Errorf("the registered function got %v", got)
	}
	mustOpen(t, "x-table:data.db")
	if got.Opaque != "data.db" {
		t.Errorf("the registered function got %#v", got)
	}
	got = nil
	for _, address := range []string{"x-table://app:hunter%2@db", "x-table://app:hunter2", "x-table://app:hunt/er2@db"} {
		_, err := openstore.Open(t.Context(), address)
		if !errors.Is(err, openstore.ErrURL) || strings.Contains(err.Error(), "hunt") || got != nil {
			t.Errorf("Open(%q): %v, want an ErrURL without the password", address, err)
		}
	}
	for scheme, open := range map[string]func(context.Context, *url.URL) (openstore.Store, error){
		"x-table": open, "redis": open, "X-Other": open, "": open, "x-nil": nil,
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Register(%q, %t) does not panic", scheme, open != nil)
				}
			}()
			openstore.Register(scheme, open)
		}()
	}
}
