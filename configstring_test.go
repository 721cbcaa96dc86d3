package session_test

import (
	"fmt"
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

// TestConfigString has a row for each field, with what it means.
func TestConfigString(t *testing.T) {
	in := func(cfg session.Config) string {
		t.Helper()
		m, err := session.New(memstore.New(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return m.Config().String()
	}
	zero, inForce := session.Config{}.String(), in(session.Config{})
	for i := range reflect.TypeFor[session.Config]().NumField() {
		name := reflect.TypeFor[session.Config]().Field(i).Name
		for _, table := range []string{zero, inForce} {
			if got := row(table, name); got == "" || got == "no such row" {
				t.Errorf("%s: %q in\n%s", name, got, table)
			}
			if value := row(table, name); strings.HasSuffix(strings.Split(table[strings.Index(table, name+" "):], "\n")[0], value) {
				t.Errorf("%s: the row does not say what it means: enter it in fields, in configstring.go", name)
			}
		}
	}
	if strings.Contains(inForce, "  default ") && row(inForce, "OnError") != "default" {
		t.Errorf("a value in force is its default, and not shown:\n%s", inForce)
	}
	full := in(session.Config{
		Policy: policy.AAL1, IdleTimeout: 90 * time.Minute, Lifetime: 30 * 24 * time.Hour, MaxPerUser: 3, KeepFields: []string{"cart", "lang"},
		SameSite: http.SameSiteStrictMode, Keys: [][]byte{key(1), key(2)}, UserKey: key(3), UnsignedUntil: time.Unix(0, 0), Logger: slog.Default(),
		CSRFExempt: []string{"POST /hook"}, CommitTimeout: 1500 * time.Millisecond, CrossOrigin: http.NewCrossOriginProtection(),
	})
	for field, value := range map[string]string{
		"Policy": "policy.AAL1", "IdleTimeout": "1h30m", "Lifetime": "720h (30 days)", "MaxRemember": "not allowed", "MaxPerUser": "3",
		"KeepFields": "cart, lang", "SameSite": "Strict", "Keys": "2 keys", "UserKey": "1 key", "UnsignedUntil": "until 1970-01-01T00:00:00Z",
		"CSRF": "yes", "CSRFExempt": "POST /hook", "CookieName": `"__Host-session"`, "CookieDomain": "this host alone", "MaxSize": "65536",
		"CommitTimeout": "1.5s", "CrossOrigin": "set", "Logger": "set", "OnError": "default", "Bearer": "no", "RefuseExtra": "no",
	} {
		if got := row(full, field); got != value {
			t.Errorf("%s: %q, want %q", field, got, value)
		}
	}
	want(t, "CrossOrigin by default", row(inForce, "CrossOrigin"), "same origin only")
}

// TestConfigPrintsNoKey, however it is printed, and before it is checked, too; nor does the Manager.
func TestConfigPrintsNoKey(t *testing.T) {
	cfg := session.Config{Keys: [][]byte{[]byte("keykeykeykeykeykeykeykeykeykeyke")}, UserKey: []byte("useruseruseruseruseruseruseruser")}
	m, err := session.New(memstore.New(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		cfg.String(), fmt.Sprint(cfg), fmt.Sprintf("%+v %s %#v", cfg, &cfg, cfg), fmt.Sprint(m.Config()), fmt.Sprintf("%#v", m.Config()),
		fmt.Sprintf("%v %+v %#v", m, m, m),
	} {
		for _, secret := range []string{"keykey", "useruser", "0x6b, 0x65", "107 101", "6b6579"} {
			if strings.Contains(text, secret) {
				t.Errorf("a key is printed: %s", text)
			}
		}
	}
}

// TestManagerConfig is a copy with the defaults, of which no Manager can be made that would have other keys.
func TestManagerConfig(t *testing.T) {
	keep := []string{"cart"}
	m, err := session.New(memstore.New(), session.Config{KeepFields: keep, Keys: [][]byte{key(1)}, UserKey: key(2)})
	if err != nil {
		t.Fatal(err)
	}
	keep[0] = "changed by the caller"
	m.Config().KeepFields[0] = "changed by a reader"
	c := m.Config()
	if c.IdleTimeout != 2*time.Hour || c.Lifetime != 24*time.Hour || c.CookieName != "__Host-session" || c.KeepFields[0] != "cart" {
		t.Errorf("%+v", c)
	}
	for _, bad := range []session.Config{{Keys: c.Keys}, {UserKey: c.UserKey}} {
		if _, err := session.New(memstore.New(), bad); err == nil {
			t.Error("blank keys are accepted")
		}
	}
	c.Keys, c.UserKey = nil, nil
	if _, err := session.New(memstore.New(), c); err != nil {
		t.Errorf("the rest of it is refused: %v", err)
	}
}
