package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/redisstore"
)

// store is a driver.Store that the command opens and closes.
type store interface {
	driver.Store
	io.Closer
}

// storeHelp lists the URLs that openStore accepts.
const storeHelp = `file:DIR (a directory, such as file:./coatcheck-data), ` +
	`memory: (lost when the process ends), ` +
	`or redis://HOST and similar URLs (Redis or Valkey, shared by processes)`

// redisHelp lists the URLs that package redisstore accepts.
const redisHelp = `  redis://[USER:PASSWORD@]HOST[:6379][/DB]          one server
  redis+unix:///PATH/TO/SOCKET                      one server, through a Unix socket
  redis+sentinel://HOST[:26379],HOST.../NAME        the primary that Sentinel calls NAME
  redis+cluster://HOST[:6379],HOST...               a Cluster; name some of its nodes
  rediss://  rediss+sentinel://  rediss+cluster://  the same, over TLS`

var schemePattern = regexp.MustCompile(`^[a-z][a-z0-9+.-]{0,30}$`)

// openStore opens the store that text names. Its errors repeat only the scheme of text, because the
// rest may contain a password. o is for Redis and Valkey.
func openStore(ctx context.Context, text string, o redisstore.Options) (store, error) {
	scheme, rest, found := strings.Cut(text, ":")
	switch {
	case !found && strings.ContainsAny(text, "@?"):
		return nil, usagef("--store has no scheme: use %s", storeHelp)
	case !found:
		return nil, usagef("--store has no scheme: use %s. Did you mean file:%s?", storeHelp, text)
	case !schemePattern.MatchString(scheme):
		return nil, usagef("--store does not begin with a scheme: use %s", storeHelp)
	}
	switch scheme {
	case "file":
		return openFile(strings.TrimPrefix(rest, "//"))
	case "memory":
		if strings.Trim(rest, "/") != "" {
			return nil, usagef("--store memory: must have nothing after the colon")
		}
		return memstore.New(), nil
	case "redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster":
		if !strings.HasPrefix(rest, "//") {
			return nil, usagef("--store %s: needs two slashes and a host, such as redis://localhost", scheme)
		}
		return openRedis(ctx, text, o)
	case "valkey", "valkeys":
		return nil, usagef("--store: use redis:// or rediss:// for Valkey as well")
	default:
		return nil, usagef("--store: unknown scheme %q: use %s", scheme, storeHelp)
	}
}

func openFile(dir string) (store, error) {
	if dir == "" {
		return nil, usagef("--store file: needs a directory, such as file:./coatcheck-data")
	}
	s, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openRedis(ctx context.Context, text string, o redisstore.Options) (store, error) {
	s, err := redisstore.Open(ctx, text, o)
	if err != nil {
		return nil, fmt.Errorf("--store: %w", err)
	}
	return s, nil
}

// shown returns the URL of an open store without its secrets. For a server, the address and the
// database remain.
func shown(text string) string {
	scheme, rest, isServer := strings.Cut(text, "://")
	if !isServer || !strings.HasPrefix(scheme, "redis") {
		return text
	}
	rest, query, _ := strings.Cut(rest, "?")
	place := scheme + "://" + rest[strings.LastIndex(rest, "@")+1:]
	if q, err := url.ParseQuery(query); err == nil && q.Has("db") {
		place += "?db=" + url.QueryEscape(q.Get("db"))
	}
	return place
}
