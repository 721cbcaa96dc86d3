package session_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// TestConfigRefused names the field, and for cookies the rule, of everything that browsers would ignore or that is unsafe.
func TestConfigRefused(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		rule, field string
		cfg         session.Config
	}{
		{"K01", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Insecure: true}}},
		{"K01", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: "__secure-s", Insecure: true}}},
		{"K02", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: "__Host-s", Insecure: true}}},
		{"K02", "Cookie.Domain", session.Config{Cookie: session.Cookie{Domain: "shop.example"}}},
		{"K02", "Cookie.Domain", session.Config{Cookie: session.Cookie{Name: "__hOsT-s", Domain: "shop.example"}}},
		{"K02", "Cookie.Path", session.Config{Cookie: session.Cookie{Path: "/app"}}},
		{"K02", "Cookie.Path", session.Config{Cookie: session.Cookie{Name: "__host-s", Path: "/app"}}},
		{"K03", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: " "}}},
		{"K04", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: "__Http-s", Insecure: true}}},
		{"K04", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: "__Host-Http-s", Insecure: true}}},
		{"K02", "Cookie.Domain", session.Config{Cookie: session.Cookie{Name: "__Host-Http-s", Domain: "shop.example"}}},
		{"K05", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: "__Host-" + strings.Repeat("n", 4096)}}},
		{"K05", "Cookie.Path", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Path: "/" + strings.Repeat("p", 1024)}}},
		{"K05", "Cookie.Domain", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Domain: strings.Repeat("a.", 600) + "example"}}},
		{"K07", "Lifetime", session.Config{Cookie: session.Cookie{Persistent: true}, Lifetime: 400*day + time.Second}},
		{"K08", "Cookie.SameSite", session.Config{Cookie: session.Cookie{SameSite: http.SameSiteNoneMode, Insecure: true}}},
		{"K09", "Cookie.SameSite", session.Config{Cookie: session.Cookie{SameSite: http.SameSiteDefaultMode}}},
		{"K09", "Cookie.SameSite", session.Config{Cookie: session.Cookie{SameSite: 9}}},
		{"K09", "Cookie.SameSite", session.Config{Cookie: session.Cookie{SameSite: -1}}},
		{"K11", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: "__Host-a\x00b"}}},
		{"K11", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: "__Host-a;b"}}},
		{"K11", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: "__Host-a=b"}}},
		{"K11", "Cookie.Path", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Path: "/a\x7f"}}},
		{"K11", "Cookie.Path", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Path: "/a;b"}}},
		{"K11", "Cookie.Path", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Path: "app"}}},
		{"K11", "Cookie.Domain", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Domain: "shop.example;x"}}},
		{"K11", "Cookie.Domain", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Domain: "-shop.example"}}},
		{"K11", "Cookie.Domain", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Domain: "shop..example"}}},
		{"K14", "Cookie.Name", session.Config{Cookie: session.Cookie{Name: "session"}}},
		{"K15", "Cookie.Partitioned", session.Config{Cookie: session.Cookie{Partitioned: true, Insecure: true}}},
		{"K15", "Cookie.Partitioned", session.Config{Cookie: session.Cookie{Partitioned: true}}},
		{"", "Lifetime", session.Config{Lifetime: -time.Hour}},
		{"", "Lifetime", session.Config{Lifetime: 11 * 365 * day}},
		{"", "IdleTimeout", session.Config{IdleTimeout: -1}},
		{"", "IdleTimeout", session.Config{IdleTimeout: 2 * day, Lifetime: day}},
		{"", "CommitTimeout", session.Config{CommitTimeout: 1}},
		{"", "RotateEvery", session.Config{RotateEvery: -time.Hour}},
		{"", "RotateEvery", session.Config{RotateEvery: time.Minute - 1}},
		{"", "RotateEvery", session.Config{RotateEvery: time.Hour + 1, Lifetime: time.Hour}},
		{"", "MaxSize", session.Config{MaxSize: -1}},
		{"", "MaxSize", session.Config{MaxSize: 1 << 30}},
		{"", "Keys", session.Config{Keys: [][]byte{key(1), nil}}},
		{"", "Keys", session.Config{Keys: [][]byte{key(1)[:31]}}},
		{"", "Keys", session.Config{Keys: [][]byte{key(1), key(2), key(1)}}},
		{"", "Keys", session.Config{Keys: [][]byte{key(1), key(0)}}},
		{"", "Keys", session.Config{Keys: [][]byte{{}}}},
		{"", "Keys", session.Config{Keys: [][]byte{append(key(1), 0)}}},
		{"", "UserKey", session.Config{UserKey: key(0)}},
		{"", "Seal", session.Config{Seal: true, UserKey: key(1)}},
		{"", "Seal", session.Config{Seal: true, UserKey: key(1), Keys: [][]byte{}}},
		{"", "Seal", session.Config{Seal: true, Keys: [][]byte{key(1)}}},
		{"", "UnsignedUntil", session.Config{UnsignedUntil: time.Now()}},
	} {
		m, err := session.New(memstore.New(), tt.cfg)
		if err == nil || m != nil {
			t.Errorf("%+v is accepted", tt.cfg)
			continue
		}
		if got := err.Error(); !strings.HasPrefix(got, "session: Config."+tt.field) || !strings.Contains(got, tt.rule) || len(got) > 300 {
			t.Errorf("want Config.%s and %s in: %v", tt.field, tt.rule, err)
		}
	}
	if _, err := session.New(nil, session.Config{}); err == nil || !strings.Contains(err.Error(), "store") {
		t.Errorf("no store: %v", err)
	}
}

// TestCookieAttributes compares Set-Cookie to the byte, and its deletion, which must have the same name, path and domain (K16).
func TestCookieAttributes(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		name       string
		cfg        session.Config
		cookie, is string
	}{
		{"default", session.Config{}, "__Host-session", "; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{"persistent", session.Config{Cookie: session.Cookie{Persistent: true}}, "__Host-session", "; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"a long time", session.Config{Cookie: session.Cookie{Persistent: true}, Lifetime: year}, "__Host-session",
			"; Path=/; Max-Age=31536000; HttpOnly; Secure; SameSite=Lax"},
		{"strict", session.Config{Cookie: session.Cookie{SameSite: http.SameSiteStrictMode}}, "__Host-session", "; Path=/; HttpOnly; Secure; SameSite=Strict"},
		{"plain http", session.Config{Cookie: session.Cookie{Insecure: true}}, "session", "; Path=/; HttpOnly; SameSite=Lax"},
		{"a domain", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Domain: "shop.example", Path: "/app"}}, "__Secure-s",
			"; Path=/app; Domain=shop.example; HttpOnly; Secure; SameSite=Lax"},
		{"embedded", session.Config{Cookie: session.Cookie{SameSite: http.SameSiteNoneMode, Partitioned: true}}, "__Host-session",
			"; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"},
		{"host and http", session.Config{Cookie: session.Cookie{Name: "__Host-Http-s"}}, "__Host-Http-s", "; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{"signed", session.Config{Keys: [][]byte{key(1)}}, "__Host-session", "; Path=/; HttpOnly; Secure; SameSite=Lax"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.cfg)
			v := s.visitor()
			w := v.do(func(ses *session.Session) error { n.Add(ses, 1); return nil })
			if len(cookies(w)) != 1 {
				t.Fatalf("Set-Cookie %q", cookies(w))
			}
			value, attributes, _ := strings.Cut(cookies(w)[0], ";")
			want := 52
			if tt.cfg.Keys != nil {
				want = 76
			}
			if got := len(value) - len(tt.cookie+"="); !strings.HasPrefix(value, tt.cookie+"=") || got != want {
				t.Errorf("%q: a token of %d characters, want %d", value, got, want)
			}
			if ";"+attributes != tt.is {
				t.Errorf("attributes %q, want %q", ";"+attributes, tt.is)
			}
			w = v.do(signOut)
			want2 := strings.Replace(tt.is, "; HttpOnly", "; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; HttpOnly", 1)
			for _, age := range []string{"; Max-Age=86400", "; Max-Age=31536000"} {
				want2 = strings.Replace(want2, age, "", 1)
			}
			if len(cookies(w)) != 1 || cookies(w)[0] != tt.cookie+"="+want2 {
				t.Errorf("deletion %q, want %q", cookies(w), tt.cookie+"="+want2)
			}
		})
	}
}

// TestPersistentCookieEndsWithTheSession: a renewal does not prolong the deadline, nor does its cookie say so.
func TestPersistentCookieEndsWithTheSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{Cookie: session.Cookie{Persistent: true}})
		v := s.known()
		time.Sleep(time.Hour)
		w := v.do(renew)
		if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge != 23*3600 {
			t.Errorf("Set-Cookie %q, want Max-Age 82800", cookies(w))
		}
	})
}
