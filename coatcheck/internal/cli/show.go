package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coatcheck-go/session/driver"
)

type showOptions struct {
	store     string
	namespace string
	values    bool
	json      bool
}

func newShow() *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show HANDLE",
		Short: "Print a stored session: its times, its token, its user and its fields",
		Long: `Print a stored session, for a person who looks for the cause of a problem.

The HANDLE of a session is in logs, in events and in lists of devices. It looks
like 1a2b-Q0aBcDeFgHiJkLmNoPqRsT and grants no access. The output never has a
token.

Values, and what is said about the user in words, are masked: only their size and
their type are printed. --values prints them. Sealed values stay sealed, because
the command has no keys.

Show does not count as a use of the session. It reads the primary, not a copy.`,
		Example: `  coatcheck show 1a2b-Q0aBcDeFgHiJkLmNoPqRsT --store redis://localhost
  coatcheck show 1a2b-Q0aBcDeFgHiJkLmNoPqRsT --store redis://localhost --values
  coatcheck show 1a2b-Q0aBcDeFgHiJkLmNoPqRsT --store file:./coatcheck-data --json | jq .fields`,
		Args: oneHandle,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.store, "store", "file:./coatcheck-data", "read the session from `URL`: file:DIR or redis://HOST; 'coatcheck demo --help' lists all")
	flags.StringVar(&o.namespace, "namespace", "", "the `NAME` that begins all keys on Redis (default \"coatcheck\")")
	flags.BoolVar(&o.values, "values", false, "print the values, too")
	flags.BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

// oneHandle reports an error unless there is one argument, a handle.
func oneHandle(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s takes one handle, such as 1a2b-Q0aBcDeFgHiJkLmNoPqRsT", cmd.CommandPath())
	}
	if _, err := driver.ParseID(args[0]); err != nil {
		return usagef("%v", err)
	}
	return nil
}

func (o *showOptions) run(ctx context.Context, handle string, stdout, stderr io.Writer) (err error) {
	id, err := driver.ParseID(handle)
	if err != nil {
		return usagef("%v", err)
	}
	warnings := slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	slog.SetDefault(slog.New(warnings)) // of the store
	if err := mayHold(o.store); err != nil {
		return err
	}
	address := withOption(o.store, "near_cache", "0")
	if o.namespace != "" {
		address = withOption(address, "namespace", o.namespace)
	}
	store, err := openStore(ctx, address)
	if err != nil {
		return err
	}
	defer func() {
		if closing := store.Close(); err == nil {
			err = closing
		}
	}()
	r, now, err := store.Load(ctx, id)
	if err != nil {
		return notShown(handle, err)
	}
	shown := describe(id, r, now, o.values)
	if o.json {
		e := json.NewEncoder(stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(shown)
	}
	return shown.print(stdout, now)
}

// mayHold refuses stores that would be made anew, and so hold no session.
func mayHold(store string) error {
	scheme, rest, _ := strings.Cut(store, ":")
	switch strings.ToLower(scheme) {
	case "memory":
		return usagef("--store memory: has no sessions: they are in the memory of the process that made them")
	case "file":
		path, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?")
		// openStore refuses what is wrong with the URL.
		if dir, err := url.PathUnescape(path); err == nil && dir != "" {
			if _, err := os.Stat(dir); err != nil {
				return fmt.Errorf("--store: %w", err)
			}
		}
	}
	return nil
}

// notShown says why there is no session to show.
func notShown(handle string, err error) error {
	ended := (*driver.EndedError)(nil)
	switch {
	case errors.As(err, &ended):
		return fmt.Errorf("session %s ended %s ago", handle, ended.Ago.Round(time.Second))
	case errors.Is(err, driver.ErrMoved):
		return fmt.Errorf("session %s was replaced by a sign-in less than %s ago", handle, driver.SupersededFor)
	case errors.Is(err, driver.ErrNotFound):
		return fmt.Errorf("there is no session %s: it has expired or ended, or is in another store or namespace", handle)
	}
	return err
}
