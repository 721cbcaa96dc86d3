package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/coatcheck-go/session/openstore"
)

// redisHelp lists the URLs that package redisstore accepts.
const redisHelp = `  redis://[USER:PASSWORD@]HOST[:6379][/DB]          one server
  redis+unix:///PATH/TO/SOCKET                      one server, through a Unix socket
  redis+sentinel://HOST[:26379],HOST.../NAME        the primary that Sentinel calls NAME
  redis+cluster://HOST[:6379],HOST...               a Cluster; name some of its nodes
  rediss://  rediss+sentinel://  rediss+cluster://  the same, over TLS`

// openStore opens the store that --store names. Its errors quote no password.
func openStore(ctx context.Context, text string) (openstore.Store, error) {
	s, err := openstore.Open(ctx, text)
	if errors.Is(err, openstore.ErrURL) {
		return nil, usagef("--store: %s", strings.TrimPrefix(err.Error(), openstore.ErrURL.Error()+": "))
	}
	if err != nil {
		return nil, fmt.Errorf("--store: %w", err)
	}
	return s, nil
}

// withOption adds an option to the URL of a store on Redis. It changes no other URL.
func withOption(text, name, value string) string {
	if !isServer(text) {
		return text
	}
	separator := "?"
	if strings.Contains(text, "?") {
		separator = "&"
	}
	return text + separator + name + "=" + url.QueryEscape(value)
}

func isServer(text string) bool { return strings.HasPrefix(strings.ToLower(text), "redis") }

// shown returns the URL of an open store without its secrets. For a server, the address and the
// database remain.
func shown(text string) string {
	if !isServer(text) {
		return text
	}
	scheme, rest, _ := strings.Cut(text, "://")
	rest, query, _ := strings.Cut(rest, "?")
	place := scheme + "://" + rest[strings.LastIndex(rest, "@")+1:]
	if q, err := url.ParseQuery(query); err == nil && q.Has("db") {
		place += "?db=" + url.QueryEscape(q.Get("db"))
	}
	return place
}
