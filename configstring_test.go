package session_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

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
	if c.IdleTimeout != 2*time.Hour || c.Lifetime != 24*time.Hour || c.Cookie.Name != "__Host-session" || c.KeepFields[0] != "cart" {
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
