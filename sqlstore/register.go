package sqlstore

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/coatcheck-go/session/openstore"
)

func init() {
	for _, scheme := range []string{"postgres", "postgresql", "sqlite"} {
		openstore.Register(scheme, openURL)
	}
}

// openURL opens the store of a URL for package openstore. These parameters of the URL are Options:
// schema, prefix, timeout, max_conns and clean_every. The others are those of Open.
func openURL(ctx context.Context, u *url.URL) (openstore.Store, error) {
	if err := checkAt(u.String()); err != nil { // below, the query is encoded anew
		return nil, err
	}
	var o Options
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf(`sqlstore: URL: the text after "?" is not name=value&…`)
	}
	for name, set := range map[string]func(value string) error{
		"schema":      func(v string) error { o.Schema = v; return nil },
		"prefix":      func(v string) error { o.Prefix = v; return nil },
		"timeout":     func(v string) (err error) { o.Timeout, err = time.ParseDuration(v); return err },
		"clean_every": func(v string) (err error) { o.CleanEvery, err = time.ParseDuration(v); return err },
		"max_conns":   func(v string) (err error) { o.MaxConns, err = strconv.Atoi(v); return err },
	} {
		values := query[name]
		if len(values) > 1 || len(values) == 1 && set(values[0]) != nil {
			return nil, fmt.Errorf("sqlstore: URL: the option %s occurs twice, or its value is wrong: durations look like 2s", name)
		}
		query.Del(name)
	}
	rest := *u
	rest.RawQuery = query.Encode()
	s, err := Open(ctx, rest.String(), o)
	if err != nil {
		return nil, err // not a nil *Store in the interface
	}
	return s, nil
}
