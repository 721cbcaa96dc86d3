// Package openstore opens a store from a setting, such as an environment variable.
//
//	store, err := openstore.Open(ctx, os.Getenv("SESSION_STORE"))
//
// These URLs work with this package alone:
//
//	memory:                            memstore
//	file:DIR, file:///DIR              filestore; options: durability, every
//	redis://HOST, rediss://HOST, …     redisstore: all URLs of redisstore.Open, and options
//
// Options follow a question mark, as in redis://localhost?timeout=1s&near_cache=0. An unknown
// option is an error.
//
//	durability        filestore.Options.Durability: always or interval
//	every             filestore.Options.Every, such as 1s
//
//	namespace         redisstore.Options.Namespace
//	timeout           redisstore.Options.Timeout, such as 2s
//	near_cache        redisstore.Options.NearCache, in bytes or such as 64MiB; 0 for none
//	max_age           redisstore.Options.MaxAge
//	lease             redisstore.Options.Lease
//	replicas          redisstore.Options.Replicas
//	replica_timeout   redisstore.Options.ReplicaTimeout
//	fsync             redisstore.Options.Fsync: true or false
//	events            redisstore.Options.Events
//	db, password_file, sentinel_user, sentinel_password, sentinel_password_file
//	                  parameters of redisstore.Open
//
// In a path, a user, a password or an option, write %25 for %, %3F for ? and %40 for @. In an
// option, also write %26 for & and %2B for +.
//
// A store in another module registers its schemes when the program imports it: see [Register].
package openstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/coatcheck-go/session/driver"
)

// Store is a store that its opener closes, after the last request.
type Store interface {
	driver.Store
	io.Closer
}

// ErrURL is the error of [Open] if it does not know the scheme or an option, or if the URL has not
// the form that the scheme requires. The store's own package checks the rest, such as hosts.
var ErrURL = errors.New("openstore: wrong URL")

// Open opens the store that a URL names. The store has the type that its own package returns, such
// as *redisstore.Store, so it keeps all optional interfaces of package driver. It logs to
// slog.Default().
//
// ctx bounds the opening, not the life of the store. The error is ErrURL, or that of the store's
// own package. No error quotes a password.
func Open(ctx context.Context, rawURL string) (Store, error) {
	scheme, rest, found := strings.Cut(rawURL, ":")
	scheme = strings.ToLower(scheme)
	switch {
	case rawURL == "":
		return nil, wrong("it is empty: use %s", examples)
	case !found && strings.ContainsAny(rawURL, "@?"): // may have a password
		return nil, wrong("it has no scheme: use %s", examples)
	case !found:
		return nil, wrong("it has no scheme: use %s. Did you mean file:%s?", examples, rawURL)
	case !schemePattern.MatchString(scheme):
		return nil, wrong("it does not begin with a scheme: use %s", examples)
	}
	mu.Lock()
	open := openers[scheme]
	mu.Unlock()
	if open == nil {
		return nil, unknownScheme(scheme)
	}
	return open(ctx, scheme, rest)
}

const examples = "memory:, file:DIR or redis://HOST"

var schemePattern = regexp.MustCompile(`^[a-z][a-z0-9+.-]{0,30}$`)

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrURL, fmt.Sprintf(format, args...))
}

// opener opens a store. rest is the URL after the scheme's colon.
type opener func(ctx context.Context, scheme, rest string) (Store, error)

var (
	mu      sync.Mutex
	openers = builtIn()
)

// Register makes [Open] call open for the URLs of a scheme. A package calls it in an init function,
// as drivers of database/sql do. Register panics if open is nil, if the scheme is not a lower-case
// one, or if it is taken.
//
// Open parses the URL. The error of open must not quote the password. Options of the URL that open
// does not know should be errors.
func Register(scheme string, open func(ctx context.Context, u *url.URL) (Store, error)) {
	mu.Lock()
	defer mu.Unlock()
	switch {
	case open == nil:
		panic("openstore: Register: open is nil")
	case !schemePattern.MatchString(scheme):
		panic(fmt.Sprintf("openstore: Register: %q is not a lower-case scheme", scheme))
	case openers[scheme] != nil:
		panic(fmt.Sprintf("openstore: Register: the scheme %q is taken", scheme))
	}
	openers[scheme] = func(ctx context.Context, scheme, rest string) (Store, error) {
		u, err := url.Parse(scheme + ":" + rest)
		if err != nil { // the error of url.Parse quotes the URL
			return nil, wrong("it does not parse: in a user or password, write %%25 for %%, %%2F for /, %%3A for :, " +
				"%%3F for ?, %%40 for @ and %%23 for #")
		}
		return open(ctx, u)
	}
}

// hints say what to do about schemes that are not known.
var hints = map[string]string{
	"valkey":     "Use redis:// for Valkey as well.",
	"valkeys":    "Use rediss:// for Valkey as well.",
	"postgres":   importSQL,
	"postgresql": importSQL,
	"sqlite":     importSQL,
}

const importSQL = `The program must import _ "github.com/coatcheck-go/session/sqlstore", which registers it.`

func unknownScheme(scheme string) error {
	mu.Lock()
	known := slices.Sorted(maps.Keys(openers))
	mu.Unlock()
	hint := hints[scheme]
	if similar := nearest(scheme, known); hint == "" && similar != "" {
		hint = fmt.Sprintf("Did you mean %q?", similar)
	}
	if hint != "" {
		hint += " "
	}
	return wrong("unknown scheme %q. %sThe schemes are %s", scheme, hint, strings.Join(known, ", "))
}
