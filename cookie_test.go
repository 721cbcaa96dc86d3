package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// TestNewRefusesInvalidConfig: the error names the field. For cookies it names the rule of
// docs/security.md.
func TestNewRefusesInvalidConfig(t *testing.T) {
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
		{"K05", "Cookie.Path",
			session.Config{Cookie: session.Cookie{Name: "__Secure-s", Path: "/" + strings.Repeat("p", 1024)}}},
		{"K05", "Cookie.Domain",
			session.Config{Cookie: session.Cookie{Name: "__Secure-s", Domain: strings.Repeat("a.", 600) + "example"}}},
		{"K07", "Lifetime", session.Config{Cookie: session.Cookie{Persistent: true}, Lifetime: 400*day + time.Second}},
		{"K08", "Cookie.SameSite",
			session.Config{Cookie: session.Cookie{SameSite: http.SameSiteNoneMode, Insecure: true}}},
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
		{"", "FirstUseTimeout", session.Config{FirstUseTimeout: -1}},
		{"", "FirstUseTimeout", session.Config{FirstUseTimeout: time.Microsecond}},
		{"", "FirstUseTimeout", session.Config{FirstUseTimeout: 2 * time.Minute, IdleTimeout: time.Minute}},
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
			t.Errorf("New accepts %+v", tt.cfg)
			continue
		}
		if got := err.Error(); !strings.HasPrefix(got, "session: Config."+tt.field) ||
			!strings.Contains(got, tt.rule) || tt.rule != "" && !strings.Contains(got, "(docs/security.md: K") ||
			len(got) > 300 {
			t.Errorf("want Config.%s and %q in: %v", tt.field, tt.rule, err)
		}
	}
	if _, err := session.New(nil, session.Config{}); err == nil || !strings.Contains(err.Error(), "store") {
		t.Errorf("without a store: %v", err)
	}
}

// TestConfigPrintsNoKey: no way to print a Config or a Manager shows a key, before New or after it.
func TestConfigPrintsNoKey(t *testing.T) {
	cfg := session.Config{Keys: [][]byte{[]byte("keykeykeykeykeykeykeykeykeykeyke")},
		UserKey: []byte("useruseruseruseruseruseruseruser")}
	m, err := session.New(memstore.New(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		cfg.String(), fmt.Sprint(cfg), fmt.Sprintf("%+v %s %#v", cfg, &cfg, cfg),
		fmt.Sprint(m.Config()), fmt.Sprintf("%#v", m.Config()),
		fmt.Sprintf("%v %+v %#v", m, m, m),
	} {
		for _, secret := range []string{"keykey", "useruser", "0x6b, 0x65", "107 101", "6b6579"} {
			if strings.Contains(text, secret) {
				t.Errorf("a key is printed: %s", text)
			}
		}
	}
}

// TestManagerConfigReturnsACopyWithDefaults: the copy has blank keys, so no Manager with other keys
// can be made from it.
func TestManagerConfigReturnsACopyWithDefaults(t *testing.T) {
	keep := []string{"cart"}
	m, err := session.New(memstore.New(), session.Config{KeepFields: keep, Keys: [][]byte{key(1)}, UserKey: key(2)})
	if err != nil {
		t.Fatal(err)
	}
	keep[0] = "changed by the caller"
	m.Config().KeepFields[0] = "changed by a reader"
	c := m.Config()
	if c.IdleTimeout != 2*time.Hour || c.FirstUseTimeout != 15*time.Minute || c.Lifetime != 24*time.Hour || c.Cookie.Name != "__Host-session" ||
		c.KeepFields[0] != "cart" {
		t.Errorf("%+v", c)
	}
	for _, bad := range []session.Config{{Keys: c.Keys}, {UserKey: c.UserKey}} {
		if _, err := session.New(memstore.New(), bad); err == nil {
			t.Error("New accepts blank keys")
		}
	}
	c.Keys, c.UserKey = nil, nil
	if _, err := session.New(memstore.New(), c); err != nil {
		t.Errorf("New refuses the Config without its keys: %v", err)
	}
}

// TestSetCookieHasTheConfiguredAttributes compares Set-Cookie byte by byte. A deletion must have
// the same name, path and domain (K16).
func TestSetCookieHasTheConfiguredAttributes(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		name       string
		cfg        session.Config
		cookie, is string
	}{
		{"default", session.Config{}, "__Host-session", "; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{"persistent", session.Config{Cookie: session.Cookie{Persistent: true}}, "__Host-session",
			"; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"a long time", session.Config{Cookie: session.Cookie{Persistent: true}, Lifetime: year}, "__Host-session",
			"; Path=/; Max-Age=31536000; HttpOnly; Secure; SameSite=Lax"},
		{"strict", session.Config{Cookie: session.Cookie{SameSite: http.SameSiteStrictMode}}, "__Host-session",
			"; Path=/; HttpOnly; Secure; SameSite=Strict"},
		{"plain http", session.Config{Cookie: session.Cookie{Insecure: true}}, "session",
			"; Path=/; HttpOnly; SameSite=Lax"},
		{"a domain", session.Config{Cookie: session.Cookie{Name: "__Secure-s", Domain: "shop.example", Path: "/app"}},
			"__Secure-s",
			"; Path=/app; Domain=shop.example; HttpOnly; Secure; SameSite=Lax"},
		{"embedded", session.Config{Cookie: session.Cookie{SameSite: http.SameSiteNoneMode, Partitioned: true}},
			"__Host-session",
			"; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"},
		{"host and http", session.Config{Cookie: session.Cookie{Name: "__Host-Http-s"}}, "__Host-Http-s",
			"; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{"signed", session.Config{Keys: [][]byte{key(1)}}, "__Host-session",
			"; Path=/; HttpOnly; Secure; SameSite=Lax"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.cfg)
			for name, begin := range map[string]func(*session.Session) error{tt.cookie + "-anon": increment, tt.cookie: signIn("ada")} {
				mustSetAndDeleteCookie(t, s.visitor(), begin, name, tt.is, tt.cfg.Keys != nil)
			}
		})
	}
}

// mustSetAndDeleteCookie checks the cookie of a session that begin starts, and its deletion.
func mustSetAndDeleteCookie(t *testing.T, v *visitor, begin func(*session.Session) error, name, is string, signed bool) {
	t.Helper()
	w := v.do(begin)
	if len(cookies(w)) != 1 {
		t.Fatalf("Set-Cookie %q", cookies(w))
	}
	value, attributes, _ := strings.Cut(cookies(w)[0], ";")
	want := 52
	if signed {
		want = 76
	}
	if got := len(value) - len(name+"="); !strings.HasPrefix(value, name+"=") || got != want {
		t.Errorf("%q: a token of %d characters, want %d", value, got, want)
	}
	if ";"+attributes != is {
		t.Errorf("attributes %q, want %q", ";"+attributes, is)
	}
	w = v.do(signOut)
	want2 := strings.Replace(is, "; HttpOnly",
		"; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; HttpOnly", 1)
	for _, age := range []string{"; Max-Age=86400", "; Max-Age=31536000"} {
		want2 = strings.Replace(want2, age, "", 1)
	}
	if len(cookies(w)) != 1 || cookies(w)[0] != name+"="+want2 {
		t.Errorf("deletion %q, want %q", cookies(w), name+"="+want2)
	}
}

// TestCookieWithoutMaxAgeKeepsTheSession: another library wrote Max-Age 0 and so deleted its
// cookie.
func TestCookieWithoutMaxAgeKeepsTheSession(t *testing.T) {
	s := newSite(t, session.Config{Cookie: session.Cookie{Persistent: false}})
	v := s.visitor()
	w := v.do(increment)
	if strings.Contains(cookies(w)[0], "Max-Age") || strings.Contains(cookies(w)[0], "Expires") {
		t.Errorf("Set-Cookie %q", cookies(w))
	}
	mustEqual(t, "n", v.count(), 1)
}

// TestPersistentCookieEndsWithTheSession: a renewal extends neither the deadline nor the cookie.
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

// TestCookieHeaderAdoptsOnlyIssuedTokens: a malformed token costs no round trip. The first write
// gives the visitor a new token.
func TestCookieHeaderAdoptsOnlyIssuedTokens(t *testing.T) {
	s := newSite(t, session.Config{})
	a, b := s.known().cookie, s.known().cookie
	token := strings.TrimPrefix(a, "__Host-session-anon=")
	ada := s.mustSignIn("ada").cookie
	other := "__Host-session-anon=" + flip(token, 10)
	stale := "__Host-session=" + flip(strings.TrimPrefix(ada, "__Host-session="), 10)
	type lines []string
	for _, tt := range []struct {
		name   string
		cookie lines
		status int
		n      int64
		loads  int64
	}{
		{"none", nil, 200, 0, 0},
		{"ours", lines{a}, 200, 1, 1},
		{"among others", lines{"x=1; " + a + "; y=2"}, 200, 1, 1},
		{"no spaces", lines{"x=1;" + a + ";y=2"}, 200, 1, 1},
		{"second line", lines{"x=1", a}, 200, 1, 1},
		{"quoted", lines{`__Host-session-anon="` + token + `"`}, 200, 1, 1},
		{"the same twice", lines{a + "; " + a}, 200, 1, 1},
		{"the same twice, two lines", lines{a, a}, 200, 1, 1},
		{"two live sessions", lines{a + "; " + b}, 400, -1, 2},
		{"two live sessions, two lines", lines{a, b}, 400, -1, 2},
		{"five tokens", lines{a, b, other, stale, ada + "; " + stale[:20] + "B" + stale[21:]}, 400, -1, 0},
		{"a live session beside an unknown one", lines{a + "; " + other}, 200, 1, 2},
		{"an unknown one beside a live session", lines{other + "; " + a}, 200, 1, 2},
		{"signed in, and an older anonymous session", lines{a + "; " + ada}, 200, 0, 1},
		{"signed out, and an anonymous session", lines{stale + "; " + a}, 200, 1, 2},
		{"never issued", lines{other}, 200, 0, 1},
		{"malformed beside ours", lines{"__Host-session=evil; " + a}, 200, 1, 1},
		{"empty beside ours", lines{"__Host-session=; " + a}, 200, 1, 1},
		{"empty", lines{"__Host-session="}, 200, 0, 0},
		{"no value", lines{"__Host-session"}, 200, 0, 0},
		{"quotes alone", lines{`__Host-session="`, `__Host-session=""`}, 200, 0, 0},
		{"truncated", lines{a[:len(a)-1]}, 200, 0, 0},
		{"too long", lines{a + "A"}, 200, 0, 0},
		{"oversized", lines{"__Host-session=" + strings.Repeat("A", 100_000)}, 200, 0, 0},
		{"as long as a signed token", lines{a + strings.Repeat("A", 24)}, 200, 1, 1},
		{"another version", lines{"__Host-session=" + "Ag" + token[2:]}, 200, 0, 0},
		{"another alphabet", lines{"__Host-session=" + "+" + token[1:]}, 200, 0, 0},
		{"a newline in it", lines{"__Host-session=" + token[:51] + "\n"}, 200, 0, 0},
		{"another case of the name", lines{"__host-session=" + token}, 200, 0, 0},
		{"a longer name", lines{"x__Host-session=" + token}, 200, 0, 0},
		{"a name that begins with other white space", lines{"x=1; \u2000" + a, "\u00a0" + a, "\v" + a}, 200, 0, 0},
		{"a tab", lines{"x=1;\t" + a}, 200, 1, 1},
		{"only separators", lines{";;; ; =; ==;"}, 200, 0, 0},
	} {
		before := s.store.loads.Load()
		h := http.Header{}
		if tt.cookie != nil {
			h["Cookie"] = tt.cookie
		}
		w, got := s.send(h, nil)
		if w.Code != tt.status || got != tt.n {
			t.Errorf("%s: %d, n = %d; want %d, %d", tt.name, w.Code, got, tt.status, tt.n)
		}
		if loads := s.store.loads.Load() - before; loads != tt.loads {
			t.Errorf("%s: %d round trips, want %d", tt.name, loads, tt.loads)
		}
		if len(newTokens(w)) != 0 || tt.status == 200 && len(cookies(w)) != 0 {
			t.Errorf("%s: a read sends Set-Cookie %q", tt.name, cookies(w))
		}
		if tt.status != 200 || tt.n != 0 || strings.HasPrefix(tt.name, "signed in") {
			continue
		}
		w, _ = s.send(h, increment)
		if c := w.Result().Cookies(); len(c) != 1 || c[0].Value == "" ||
			strings.Contains(strings.Join(tt.cookie, ";"), c[0].Value) {
			t.Errorf("%s: a write sends Set-Cookie %q, want a new token", tt.name, cookies(w))
		}
	}
}

// TestForgedTokenCostsNoRoundTrip: with keys, a change of any character makes the token invalid.
func TestForgedTokenCostsNoRoundTrip(t *testing.T) {
	s := newSite(t, session.Config{Keys: [][]byte{key(1)}})
	cookie := s.known().cookie
	if _, got := s.send(http.Header{"Cookie": {cookie}}, nil); got != 1 {
		t.Fatalf("n = %d", got)
	}
	before := s.store.loads.Load()
	name, token, _ := strings.Cut(cookie, "=")
	for i := range token {
		if w, got := s.send(http.Header{"Cookie": {name + "=" + flip(token, i)}}, nil); w.Code != 200 || got != 0 {
			t.Errorf("character %d forged: %d, n = %d", i, w.Code, got)
		}
	}
	if _, got := s.send(http.Header{"Cookie": {name + "=" + token[:52]}}, nil); got != 0 {
		t.Error("an unsigned token is accepted")
	}
	if _, got := s.send(http.Header{"Cookie": {name + "=" + flip(token, 60) + "; " + cookie}}, nil); got != 1 {
		t.Error("a forged token hides the valid one beside it")
	}
	if loads := s.store.loads.Load() - before; loads != 1 {
		t.Errorf("%d round trips, want 1", loads)
	}
}

// TestTokenIsReadOnlyFromTheCookie: a URL and a form are never read. The Authorization header is
// read only with Config.Bearer.
func TestTokenIsReadOnlyFromTheCookie(t *testing.T) {
	s := newSite(t, session.Config{})
	cookie := s.known().cookie
	token := strings.TrimPrefix(cookie, "__Host-session=")
	before := s.store.loads.Load()
	for name, r := range map[string]*http.Request{
		"URL":    httptest.NewRequest("GET", "https://shop.example/?"+cookie+"&session="+token+"&token="+token, nil),
		"path":   httptest.NewRequest("GET", "https://shop.example/;"+cookie, nil),
		"form":   httptest.NewRequest("POST", "https://shop.example/", strings.NewReader(cookie)),
		"bearer": httptest.NewRequest("GET", "https://shop.example/", nil),
	} {
		r.Header.Set("Authorization", "Bearer "+token)
		if name == "form" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		w := httptest.NewRecorder()
		s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			if n.Get(ses) != 0 {
				t.Errorf("%s: the token is read", name)
			}
			return nil
		})).ServeHTTP(w, r)
	}
	if s.store.loads.Load() != before {
		t.Error("the requests cost round trips")
	}
}

// TestUnknownTokenIsNotAdopted: a visitor with the token of an ended session gets no error, and a
// new token with the first write.
func TestUnknownTokenIsNotAdopted(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.tab().do(signOut)
	dead := v.cookie
	for range 2 {
		w := v.do(func(s *session.Session) error { return nil })
		mustEqual(t, "status", w.Code, 200)
	}
	v.do(increment)
	if v.cookie == dead {
		t.Error("the write revived the dead token")
	}
}

// TestNoWildcardsInTokens: a token with a wildcard ends no other session.
func TestNoWildcardsInTokens(t *testing.T) {
	s := newSite(t, session.Config{})
	other := s.known()
	v := s.visitor()
	v.cookie = "__Host-session=*"
	v.do(signOut)
	mustEqual(t, "another visitor's n", other.count(), 1)
}

// TestVisitorIsNotStoredBeforeTheFirstWrite: calls that change nothing store nothing and set no
// cookie.
func TestVisitorIsNotStoredBeforeTheFirstWrite(t *testing.T) {
	s := newSite(t, session.Config{})
	for name, f := range map[string]func(ses *session.Session) error{
		"reads": func(ses *session.Session) error {
			n.Get(ses)
			theme.Get(ses)
			ses.Info()
			return nil
		},
		"commits":   func(ses *session.Session) error { return ses.Commit(t.Context()) },
		"signs out": signOut,
		"renews":    renew,
		"takes nothing": func(ses *session.Session) error {
			_, ok, err := session.Value[string]("notice").Take(t.Context(), ses)
			if ok {
				t.Error("something was taken")
			}
			return err
		},
	} {
		w := s.visitor().do(f)
		if w.Code != 200 || len(cookies(w)) != 0 || s.store.Len() != 0 {
			t.Errorf("a visitor who %s: %d, Set-Cookie %q, %d sessions", name, w.Code, cookies(w), s.store.Len())
		}
	}
	calls := s.store.loads.Load() + s.store.creates.Load() + s.store.applies.Load() + s.store.ends.Load() +
		s.store.touches.Load()
	if calls != 0 {
		t.Errorf("%d calls of the store", calls)
	}
}

// TestCachingHeadersAreSetWhereASessionIsUsed: Vary and Cache-Control are set where a session is
// used or a cookie is set, and nowhere else.
func TestCachingHeadersAreSetWhereASessionIsUsed(t *testing.T) {
	use := func(set http.Header, f func(*session.Session)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for name, v := range set {
				w.Header()[name] = slices.Clone(v)
			}
			if f != nil {
				s, err := session.From(r.Context())
				if err != nil {
					t.Error(err)
					return
				}
				f(s)
			}
			w.Write([]byte("page"))
		})
	}
	read := func(s *session.Session) { n.Get(s) }
	write := func(s *session.Session) { n.Add(s, 1) }
	public := http.Header{"Cache-Control": {"public, max-age=60"}}
	for _, tt := range []struct {
		name        string
		known       bool
		h           http.Handler
		vary, cache []string
	}{
		{"not used", true, use(nil, nil), nil, nil},
		{"not used, public", true, use(public, nil), nil, []string{"public, max-age=60"}},
		{"read", true, use(nil, read), []string{"Cookie"}, []string{"private, no-cache"}},
		{"read by an unknown visitor", false, use(nil, read), []string{"Cookie"}, []string{"private, no-cache"}},
		{"read, the handler sets Cache-Control", true, use(public, read), []string{"Cookie"},
			[]string{"public, max-age=60"}},
		{"written, no new cookie", true, use(nil, write), []string{"Cookie"}, []string{"private, no-cache"}},
		{"a new cookie", false, use(public, write), []string{"Cookie"}, []string{"no-store"}},
		{"the cookie deleted", true, use(public, func(s *session.Session) { signOut(s) }), []string{"Cookie"},
			[]string{"no-store"}},
		{"renewed", true, use(public, func(s *session.Session) { renew(s) }), []string{"Cookie"}, []string{"no-store"}},
		{"another Vary", true, use(http.Header{"Vary": {"Accept-Encoding"}}, read),
			[]string{"Accept-Encoding", "Cookie"}, []string{"private, no-cache"}},
		{"Vary has Cookie already", true, use(http.Header{"Vary": {"Accept, cookie"}}, read),
			[]string{"Accept, cookie"}, []string{"private, no-cache"}},
		{"Vary is *", true, use(http.Header{"Vary": {"*"}}, read), []string{"*"}, []string{"private, no-cache"}},
	} {
		s := newSite(t, session.Config{})
		v := s.visitor()
		if tt.known {
			v = s.known()
		}
		w := v.handle(tt.h)
		h := w.Result().Header
		if !slices.Equal(h["Vary"], tt.vary) || !slices.Equal(h["Cache-Control"], tt.cache) {
			t.Errorf("%s: Vary %q, Cache-Control %q; want %q, %q", tt.name, h["Vary"], h["Cache-Control"], tt.vary,
				tt.cache)
		}
	}
}
