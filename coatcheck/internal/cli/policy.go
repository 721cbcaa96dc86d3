package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/policy"
	"github.com/spf13/cobra"
)

// preset is one of package policy's.
type preset struct {
	name, source, code string
	policy             func(*session.Config) error
}

// presets are what the command knows, by the names that it is given.
var presets = []preset{
	{"default", "what applications get that set nothing", "session.Config{}", nil},
	{"aal1", "NIST SP 800-63B-4, authentication assurance level 1", "session.Config{Policy: policy.AAL1}", policy.AAL1},
	{"aal2", "NIST SP 800-63B-4, authentication assurance level 2", "session.Config{Policy: policy.AAL2}", policy.AAL2},
	{"aal3", "NIST SP 800-63B-4, authentication assurance level 3", "session.Config{Policy: policy.AAL3}", policy.AAL3},
	{"high-value", "OWASP Session Management Cheat Sheet, applications of high value", "session.Config{Policy: policy.HighValue}", policy.HighValue},
}

func presetNames() (names []string) {
	for _, p := range presets {
		names = append(names, p.name)
	}
	return names
}

func newPolicy() *cobra.Command {
	asJSON := false
	var list strings.Builder
	for _, p := range presets {
		fmt.Fprintf(&list, "  %-11s %s\n", p.name, p.source)
	}
	cmd := &cobra.Command{
		Use:   "policy [PRESET]",
		Short: "Print what a preset asks of sessions: time limits, cookie, CSRF",
		Long: `Print the configuration that a preset comes to, field by field, for a security
plan or a review. Presets:

` + list.String() + `
An application chooses one in session.Config.Policy. It may be stricter, field by
field; what a preset forbids, session.New refuses. What is in force in a running
application, its own settings included, is what Manager.Config() prints.

With --json, times are in seconds, sizes in bytes.`,
		Example: `  coatcheck policy                         what applications get that set nothing
  coatcheck policy aal2                    what AAL2 of NIST SP 800-63B-4 comes to
  coatcheck policy high-value --json       for programs
  coatcheck policy aal3 --json | jq .config.IdleTimeout`,
		Args:      onePreset,
		ValidArgs: presetNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "default"
			if len(args) > 0 {
				name = args[0]
			}
			p, err := presetOf(name)
			if err != nil {
				return usagef("%v", err)
			}
			return p.print(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// onePreset allows the name of a preset, or nothing.
func onePreset(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("%q: %s takes one preset", args[1], cmd.CommandPath())
	}
	return nil
}

func presetOf(name string) (preset, error) {
	for _, p := range presets {
		if p.name == strings.ToLower(name) {
			return p, nil
		}
	}
	names := presetNames()
	return preset{}, fmt.Errorf("unknown preset %q: it is one of %s%s", name, strings.Join(names, ", "), didYouMean("", strings.ToLower(name), names))
}

func (p *preset) print(w io.Writer, asJSON bool) error {
	store := memstore.New()
	defer store.Close()
	m, err := session.New(store, session.Config{Policy: p.policy})
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"preset": p.name, "source": p.source, "config": plain(m.Config())})
	}
	_, err = fmt.Fprintf(w, "%s: %s\n%s\n\n%s", p.name, p.source, p.code, configTable(m.Config()))
	return err
}

// plain returns the fields of a configuration that JSON has a form for: no functions, loggers and keys.
func plain(c session.Config) map[string]any {
	fields := map[string]any{}
	for _, f := range configFields(reflect.ValueOf(c), "") {
		name := f.name
		switch x := f.value.Interface().(type) {
		case time.Duration:
			fields[name] = x.Seconds()
		case http.SameSite:
			fields[name] = map[http.SameSite]string{
				http.SameSiteLaxMode: "Lax", http.SameSiteStrictMode: "Strict", http.SameSiteNoneMode: "None",
			}[x]
		case bool, int, string:
			fields[name] = x
		case []string:
			fields[name] = append([]string{}, x...)
		}
	}
	return fields
}
