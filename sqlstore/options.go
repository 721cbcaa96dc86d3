package sqlstore

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"
)

// Options configure a store. The zero Options are good for production.
type Options struct {
	// Schema is the schema of the tables in PostgreSQL. It must exist. Its form is that of Prefix.
	// Default: the first schema of the role's search_path.
	Schema string

	// Prefix begins the names of the tables and indexes. Stores with different prefixes share
	// nothing. It has 1 to 32 of the bytes a-z 0-9 _ and does not begin with a digit.
	// Default: "coatcheck_".
	Prefix string

	// Timeout bounds one operation, with its repetitions and its wait for a connection. An earlier
	// deadline of the context wins. Default: 2s.
	Timeout time.Duration

	// MaxConns bounds the connections that Open makes. New ignores it. Default: 16.
	MaxConns int

	// CleanEvery is how often expired rows are removed, on average. It also bounds how late
	// OnExpiry reports. Several processes share the work. Default: 1min.
	CleanEvery time.Duration

	// Logger never gets a token. Default: slog.Default().
	Logger *slog.Logger
}

var identifier = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,31}$`)

// checked returns o with its defaults.
func (o Options) checked(d Dialect) (Options, error) {
	if d != PostgreSQL && d != SQLite {
		return o, fmt.Errorf("sqlstore: unknown dialect %d: use sqlstore.PostgreSQL or sqlstore.SQLite", d)
	}
	if o.Prefix == "" {
		o.Prefix = "coatcheck_"
	}
	if o.Schema != "" && d == SQLite {
		return o, errors.New("sqlstore: Options.Schema: SQLite has no schemas: use Options.Prefix")
	}
	for name, value := range map[string]string{"Schema": o.Schema, "Prefix": o.Prefix} {
		if value != "" && !identifier.MatchString(value) {
			return o, fmt.Errorf("sqlstore: Options.%s: %q is not 1 to 32 of the bytes a-z 0-9 _, beginning with no digit", name, value)
		}
	}
	if o.Timeout < 0 || o.CleanEvery < 0 || o.MaxConns < 0 {
		return o, errors.New("sqlstore: Options: Timeout, CleanEvery and MaxConns must not be negative")
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	if o.CleanEvery == 0 {
		o.CleanEvery = time.Minute
	}
	if o.MaxConns == 0 {
		o.MaxConns = 16
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}
