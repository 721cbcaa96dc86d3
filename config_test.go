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
		{"K01", "CookieName", session.Config{CookieName: "__Secure-s", InsecureHTTP: true}},
		{"K01", "CookieName", session.Config{CookieName: "__secure-s", InsecureHTTP: true}},
		{"K02", "CookieName", session.Config{CookieName: "__Host-s", InsecureHTTP: true}},
		{"K02", "CookieDomain", session.Config{CookieDomain: "shop.example"}},
		{"K02", "CookieDomain", session.Config{CookieName: "__hOsT-s", CookieDomain: "shop.example"}},
		{"K02", "CookiePath", session.Config{CookiePath: "/app"}},
		{"K02", "CookiePath", session.Config{CookieName: "__host-s", CookiePath: "/app"}},
		{"K03", "CookieName", session.Config{CookieName: " "}},
		{"K04", "CookieName", session.Config{CookieName: "__Http-s", InsecureHTTP: true}},
		{"K04", "CookieName", session.Config{CookieName: "__Host-Http-s", InsecureHTTP: true}},
		{"K02", "CookieDomain", session.Config{CookieName: "__Host-Http-s", CookieDomain: "shop.example"}},
		{"K05", "CookieName", session.Config{CookieName: "__Host-" + strings.Repeat("n", 4096)}},
		{"K05", "CookiePath", session.Config{CookieName: "__Secure-s", CookiePath: "/" + strings.Repeat("p", 1024)}},
		{"K05", "CookieDomain", session.Config{CookieName: "__Secure-s", CookieDomain: strings.Repeat("a.", 600) + "example"}},
		{"K07", "Lifetime", session.Config{Persistent: true, Lifetime: 400*day + time.Second}},
		{"K08", "SameSite", session.Config{SameSite: http.SameSiteNoneMode, InsecureHTTP: true}},
		{"K09", "SameSite", session.Config{SameSite: http.SameSiteDefaultMode}},
		{"K09", "SameSite", session.Config{SameSite: 9}},
		{"K09", "SameSite", session.Config{SameSite: -1}},
		{"K11", "CookieName", session.Config{CookieName: "__Host-a\x00b"}},
		{"K11", "CookieName", session.Config{CookieName: "__Host-a;b"}},
		{"K11", "CookieName", session.Config{CookieName: "__Host-a=b"}},
		{"K11", "CookiePath", session.Config{CookieName: "__Secure-s", CookiePath: "/a\x7f"}},
		{"K11", "CookiePath", session.Config{CookieName: "__Secure-s", CookiePath: "/a;b"}},
		{"K11", "CookiePath", session.Config{CookieName: "__Secure-s", CookiePath: "app"}},
		{"K11", "CookieDomain", session.Config{CookieName: "__Secure-s", CookieDomain: "shop.example;x"}},
		{"K11", "CookieDomain", session.Config{CookieName: "__Secure-s", CookieDomain: "-shop.example"}},
		{"K11", "CookieDomain", session.Config{CookieName: "__Secure-s", CookieDomain: "shop..example"}},
		{"K14", "CookieName", session.Config{CookieName: "session"}},
		{"K15", "Partitioned", session.Config{Partitioned: true, InsecureHTTP: true}},
		{"K15", "Partitioned", session.Config{Partitioned: true}},
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
		{"persistent", session.Config{Persistent: true}, "__Host-session", "; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"a long time", session.Config{Persistent: true, Lifetime: year}, "__Host-session",
			"; Path=/; Max-Age=31536000; HttpOnly; Secure; SameSite=Lax"},
		{"strict", session.Config{SameSite: http.SameSiteStrictMode}, "__Host-session", "; Path=/; HttpOnly; Secure; SameSite=Strict"},
		{"plain http", session.Config{InsecureHTTP: true}, "session", "; Path=/; HttpOnly; SameSite=Lax"},
		{"a domain", session.Config{CookieName: "__Secure-s", CookieDomain: "shop.example", CookiePath: "/app"}, "__Secure-s",
			"; Path=/app; Domain=shop.example; HttpOnly; Secure; SameSite=Lax"},
		{"embedded", session.Config{SameSite: http.SameSiteNoneMode, Partitioned: true}, "__Host-session",
			"; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"},
		{"host and http", session.Config{CookieName: "__Host-Http-s"}, "__Host-Http-s", "; Path=/; HttpOnly; Secure; SameSite=Lax"},
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
		s := newSite(t, session.Config{Persistent: true})
		v := s.known()
		time.Sleep(time.Hour)
		w := v.do(renew)
		if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge != 23*3600 {
			t.Errorf("Set-Cookie %q, want Max-Age 82800", cookies(w))
		}
	})
}
