package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/policy"
	"github.com/spf13/cobra"
)

// preset is a configuration that the command can print.
type preset struct {
	name   string // as on the command line
	source string // the standard that it applies
	code   string // how an application selects it
	policy func(*session.Config) error
}

// presets are the zero Config and the presets of package policy.
var presets = []preset{
	{"default", "an application that sets nothing", "session.Config{}", nil},
	{"aal1", "NIST SP 800-63B-4, authentication assurance level 1", "session.Config{Policy: policy.AAL1}", policy.AAL1},
	{"aal2", "NIST SP 800-63B-4, authentication assurance level 2", "session.Config{Policy: policy.AAL2}", policy.AAL2},
	{"aal3", "NIST SP 800-63B-4, authentication assurance level 3", "session.Config{Policy: policy.AAL3}", policy.AAL3},
	{
		"high-value", "OWASP Session Management Cheat Sheet, high-value applications",
		"session.Config{Policy: policy.HighValue}", policy.HighValue,
	},
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
		Short: "Print the configuration of a preset: time limits, cookie, CSRF",
		Long: `Print the configuration of a preset for a security plan or a review. Each line
has a field of session.Config, its value and its meaning. The presets:

` + list.String() + `
An application selects a preset with session.Config.Policy. It may set stricter
values. session.New refuses the values that the preset forbids. To get the
configuration of a running application, with its own settings, call Manager.Config.

With --json, the output is one object with "preset", "source" and "config":

  - a duration is a number of seconds, a size is a number of bytes;
  - the fields of Cookie are an object of their own: .config.Cookie.SameSite;
  - functions, loggers, keys and UnsignedUntil are left out.`,
		Example: `  coatcheck policy                         the configuration of an application that sets nothing
  coatcheck policy aal2                    AAL2 of NIST SP 800-63B-4
  coatcheck policy high-value --json       JSON for other programs
  coatcheck policy aal3 --json | jq .config.IdleTimeout
  coatcheck policy aal3 --json | jq -r .config.Cookie.SameSite`,
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
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// onePreset reports an error if there is more than one argument.
func onePreset(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("unexpected argument %q: %s takes one preset", args[1], cmd.CommandPath())
	}
	return nil
}

// presetOf returns the preset with this name. The error is for the user.
func presetOf(name string) (preset, error) {
	for _, p := range presets {
		if p.name == strings.ToLower(name) {
			return p, nil
		}
	}
	names := presetNames()
	return preset{}, fmt.Errorf("unknown preset %q: the presets are %s%s",
		name, strings.Join(names, ", "), didYouMean("", strings.ToLower(name), names))
}

// print writes the configuration that session.New makes of the preset.
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
		config := configJSON(reflect.ValueOf(m.Config()))
		return e.Encode(map[string]any{"preset": p.name, "source": p.source, "config": config})
	}
	_, err = fmt.Fprintf(w, "%s: %s\n%s\n\n%s", p.name, p.source, p.code, configTable(m.Config()))
	return err
}
