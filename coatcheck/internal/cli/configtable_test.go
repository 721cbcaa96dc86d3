package cli

import (
	"bytes"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/policy"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// row returns the value and the meaning of a field in the table.
func row(table, field string) (value, meaning string) {
	for line := range strings.Lines(table) {
		name, rest, _ := strings.Cut(line, "  ")
		if name == field {
			value, meaning, _ = strings.Cut(strings.TrimLeft(rest, " "), "  ")
			return strings.TrimSpace(value), strings.TrimSpace(meaning)
		}
	}
	return "no such row", ""
}

// mustConfig returns the configuration that session.New makes of cfg.
func mustConfig(t *testing.T, cfg session.Config) session.Config {
	t.Helper()
	m, err := session.New(memstore.New(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m.Config()
}

// TestEachConfigFieldHasAMeaning fails when session.Config gets a field without an entry in
// configMeanings, or loses a field that has one.
func TestEachConfigFieldHasAMeaning(t *testing.T) {
	var names []string
	fieldWith := map[string]string{} // by meaning
	for _, f := range configFields(reflect.ValueOf(session.Config{}), "") {
		names = append(names, f.name)
		meaning := configMeanings[f.name].meaning
		if meaning == "" {
			t.Errorf("Config.%s has no meaning: add it to configMeanings", f.name)
		} else if other := fieldWith[meaning]; other != "" {
			t.Errorf("Config.%s has the same meaning as Config.%s: correct configMeanings", f.name, other)
		}
		fieldWith[meaning] = f.name
	}
	for name := range configMeanings {
		if !slices.Contains(names, name) {
			t.Errorf("configMeanings has %q, which is not a field of session.Config: remove it", name)
		}
	}
}

func TestConfigTableShowsEachField(t *testing.T) {
	zero, defaults := configTable(session.Config{}), configTable(mustConfig(t, session.Config{}))
	for _, f := range configFields(reflect.ValueOf(session.Config{}), "") {
		for _, table := range []string{zero, defaults} {
			value, meaning := row(table, f.name)
			if value == "" || value == "no such row" || meaning != configMeanings[f.name].meaning {
				t.Errorf("%s: the table shows %q, %q, want a value and its meaning:\n%s", f.name, value, meaning, table)
			}
			if table == defaults && f.name != "OnError" && value == "default" {
				t.Errorf("%s: session.New has set a default, but the table does not show it:\n%s", f.name, table)
			}
		}
	}
}

func TestConfigTableShowsValues(t *testing.T) {
	full := configTable(mustConfig(t, session.Config{
		Policy: policy.AAL1, IdleTimeout: 90 * time.Minute, Lifetime: 30 * 24 * time.Hour, MaxPerUser: 3,
		KeepFields: []string{"cart", "lang"}, UserFields: []session.Field{session.Counters("order"), session.Value[string]("theme")}, Cookie: session.Cookie{SameSite: http.SameSiteStrictMode},
		Keys: [][]byte{key(1), key(2)}, UserKey: key(3), UnsignedUntil: time.Unix(0, 0), Logger: slog.Default(),
		CSRFExempt: []string{"POST /hook"}, CommitTimeout: 1500 * time.Millisecond,
		CrossOrigin: http.NewCrossOriginProtection(),
	}))
	for field, want := range map[string]string{
		"Policy":          "policy.AAL1",
		"IdleTimeout":     "1h30m",
		"Lifetime":        "720h (30 days)",
		"MaxRemember":     "not allowed",
		"MaxPerUser":      "3",
		"RefuseExtra":     "no",
		"KeepFields":      "cart, lang",
		"UserFields":      "order, theme",
		"UserKey":         "1 key",
		"Cookie.Name":     `"__Host-session"`,
		"Cookie.Domain":   "this host only",
		"Cookie.SameSite": "Strict",
		"Bearer":          "no",
		"Keys":            "2 keys",
		"UnsignedUntil":   "1970-01-01T00:00:00Z",
		"MaxSize":         "65536",
		"CommitTimeout":   "1.5s",
		"CrossOrigin":     "set",
		"CSRF":            "yes",
		"CSRFExempt":      "POST /hook",
		"OnError":         "default",
		"Logger":          "set",
	} {
		if got, _ := row(full, field); got != want {
			t.Errorf("%s: the table shows %q, want %q", field, got, want)
		}
	}
	if got, _ := row(configTable(mustConfig(t, session.Config{})), "CrossOrigin"); got != "same origin only" {
		t.Errorf("CrossOrigin by default: the table shows %q, want %q", got, "same origin only")
	}
}

// notInJSON lists the fields that --json leaves out: functions, loggers, keys, and a time that no
// preset sets. The help of the command names them.
var notInJSON = []string{
	"Policy", "UserKey", "Keys", "UnsignedUntil", "CrossOrigin", "OnError", "OnEvent", "Observers", "Logger",
}

// TestConfigJSONHasEachField fails when session.Config gets a field that configJSON drops without
// an entry in notInJSON.
func TestConfigJSONHasEachField(t *testing.T) {
	config := configJSON(reflect.ValueOf(mustConfig(t, session.Config{Keys: [][]byte{key(1)}, UserKey: key(2)})))
	for _, f := range configFields(reflect.ValueOf(session.Config{}), "") {
		object, name := config, f.name
		if inCookie, ok := strings.CutPrefix(f.name, "Cookie."); ok {
			object, name = config["Cookie"].(map[string]any), inCookie
		}
		_, found := object[name]
		if found == slices.Contains(notInJSON, f.name) {
			t.Errorf("%s: in the JSON: %v; in notInJSON: %v: it must be in exactly one of them", f.name, found, !found)
		}
	}
	cookie := config["Cookie"].(map[string]any)
	if cookie["Name"] != "__Host-session" || cookie["Path"] != "/" ||
		cookie["SameSite"] != "Lax" || cookie["Insecure"] != false {
		t.Errorf("Cookie is %v", cookie)
	}
	if config["IdleTimeout"] != 7200.0 || config["MaxSize"] != 65536 {
		t.Errorf("IdleTimeout is %v and MaxSize is %v, want 7200 (seconds) and 65536 (bytes)",
			config["IdleTimeout"], config["MaxSize"])
	}
}
