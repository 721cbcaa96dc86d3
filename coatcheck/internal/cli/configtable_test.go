package cli

import (
	"bytes"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/policy"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// row returns a field's value in the table.
func row(table, field string) string {
	for line := range strings.Lines(table) {
		name, rest, _ := strings.Cut(line, "  ")
		if name == field {
			value, _, _ := strings.Cut(strings.TrimLeft(rest, " "), "  ")
			return strings.TrimSpace(value)
		}
	}
	return "no such row"
}

// TestConfigTable has one row for each field, with its meaning.
func TestConfigTable(t *testing.T) {
	in := func(cfg session.Config) string {
		t.Helper()
		m, err := session.New(memstore.New(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return configTable(m.Config())
	}
	zero, inForce := configTable(session.Config{}), in(session.Config{})
	for _, f := range configFields(reflect.ValueOf(session.Config{}), "") {
		name := f.name
		for _, table := range []string{zero, inForce} {
			if got := row(table, name); got == "" || got == "no such row" {
				t.Errorf("%s: %q in\n%s", name, got, table)
			}
			if value := row(table, name); strings.HasSuffix(strings.Split(table[strings.Index(table, name+" "):], "\n")[0], value) {
				t.Errorf("%s: the row does not say what it means: enter it in configMeanings", name)
			}
		}
	}
	if strings.Contains(inForce, "  default ") && row(inForce, "OnError") != "default" {
		t.Errorf("a value in force is its default, and not shown:\n%s", inForce)
	}
	full := in(session.Config{
		Policy: policy.AAL1, IdleTimeout: 90 * time.Minute, Lifetime: 30 * 24 * time.Hour, MaxPerUser: 3, KeepFields: []string{"cart", "lang"},
		Cookie: session.Cookie{SameSite: http.SameSiteStrictMode}, Keys: [][]byte{key(1), key(2)}, UserKey: key(3), UnsignedUntil: time.Unix(0, 0), Logger: slog.Default(),
		CSRFExempt: []string{"POST /hook"}, CommitTimeout: 1500 * time.Millisecond, CrossOrigin: http.NewCrossOriginProtection(),
	})
	for field, value := range map[string]string{
		"Policy": "policy.AAL1", "IdleTimeout": "1h30m", "Lifetime": "720h (30 days)", "MaxRemember": "not allowed", "MaxPerUser": "3",
		"KeepFields": "cart, lang", "Cookie.SameSite": "Strict", "Keys": "2 keys", "UserKey": "1 key", "UnsignedUntil": "until 1970-01-01T00:00:00Z",
		"CSRF": "yes", "CSRFExempt": "POST /hook", "Cookie.Name": `"__Host-session"`, "Cookie.Domain": "this host alone", "MaxSize": "65536",
		"CommitTimeout": "1.5s", "CrossOrigin": "set", "Logger": "set", "OnError": "default", "Bearer": "no", "RefuseExtra": "no",
	} {
		if got := row(full, field); got != value {
			t.Errorf("%s: %q, want %q", field, got, value)
		}
	}
	if got := row(inForce, "CrossOrigin"); got != "same origin only" {
		t.Errorf("CrossOrigin by default: %q", got)
	}
}
