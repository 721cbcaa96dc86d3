package session_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
)

// send sends a request with these header lines and returns its response and n.
func (s *site) send(h http.Header, f func(*session.Session) error) (*httptest.ResponseRecorder, int64) {
	got := int64(-1)
	r := httptest.NewRequest("GET", "https://shop.example/", nil)
	r.Header = h
	w := httptest.NewRecorder()
	s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		got = n.Get(ses)
		if f != nil {
			return f(ses)
		}
		return nil
	})).ServeHTTP(w, r)
	return w, got
}

// TestCookieHeader: what is not a token costs no round trip and is never adopted.
func TestCookieHeader(t *testing.T) {
	s := newSite(t, session.Config{})
	a, b := s.known().cookie, s.known().cookie
	token := strings.TrimPrefix(a, "__Host-session=")
	other := "__Host-session=" + flip(token, 10)
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
		{"quoted", lines{`__Host-session="` + token + `"`}, 200, 1, 1},
		{"twice the same", lines{a + "; " + a}, 200, 1, 1},
		{"twice the same, two lines", lines{a, a}, 200, 1, 1},
		{"two sessions", lines{a + "; " + b}, 400, -1, 0},
		{"two sessions, two lines", lines{a, b}, 400, -1, 0},
		{"two sessions, one unknown", lines{a + "; " + other}, 400, -1, 0},
		{"never issued", lines{other}, 200, 0, 1},
		{"malformed beside ours", lines{"__Host-session=evil; " + a}, 200, 1, 1},
		{"empty beside ours", lines{"__Host-session=; " + a}, 200, 1, 1},
		{"empty", lines{"__Host-session="}, 200, 0, 0},
		{"no value", lines{"__Host-session"}, 200, 0, 0},
		{"quotes alone", lines{`__Host-session="`, `__Host-session=""`}, 200, 0, 0},
		{"truncated", lines{a[:len(a)-1]}, 200, 0, 0},
		{"too long", lines{a + "A"}, 200, 0, 0},
		{"oversized", lines{"__Host-session=" + strings.Repeat("A", 100_000)}, 200, 0, 0},
		{"of a signed one's length", lines{a + strings.Repeat("A", 24)}, 200, 1, 1},
		{"another version", lines{"__Host-session=" + "Ag" + token[2:]}, 200, 0, 0},
		{"another alphabet", lines{"__Host-session=" + "+" + token[1:]}, 200, 0, 0},
		{"a newline in it", lines{"__Host-session=" + token[:51] + "\n"}, 200, 0, 0},
		{"another case of the name", lines{"__host-session=" + token}, 200, 0, 0},
		{"a longer name", lines{"x__Host-session=" + token}, 200, 0, 0},
		{"a name that begins with what is no space to browsers", lines{"x=1; \u2000" + a, "\u00a0" + a, "\v" + a}, 200, 0, 0},
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
		if len(cookies(w)) != 0 {
			t.Errorf("%s: a read sends Set-Cookie %q", tt.name, cookies(w))
		}
		if tt.status != 200 || tt.n != 0 {
			continue
		}
		w, _ = s.send(h, func(ses *session.Session) error { n.Add(ses, 1); return nil })
		if c := w.Result().Cookies(); len(c) != 1 || c[0].Value == "" || strings.Contains(strings.Join(tt.cookie, ";"), c[0].Value) {
			t.Errorf("%s: a write sends Set-Cookie %q, want a new token", tt.name, cookies(w))
		}
	}
}

// flip changes one character of a token.
func flip(token string, i int) string {
	c := byte('A')
	if token[i] == c {
		c = 'B'
	}
	return token[:i] + string(c) + token[i+1:]
}

// TestForgedTokenCostsNothing: with keys, every character of a token counts.
func TestForgedTokenCostsNothing(t *testing.T) {
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
		t.Error("unsigned is accepted")
	}
	if _, got := s.send(http.Header{"Cookie": {name + "=" + flip(token, 60) + "; " + cookie}}, nil); got != 1 {
		t.Error("a forged token beside the true one hides it")
	}
	if loads := s.store.loads.Load() - before; loads != 1 {
		t.Errorf("%d round trips, want 1", loads)
	}
}

// TestKeyRotation: a new key first, and the old one dropped, sign nobody out.
func TestKeyRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first := newSite(t, session.Config{})
		with := func(keys [][]byte, until time.Time) *site {
			s := newSite(t, session.Config{Keys: keys, UnsignedUntil: until})
			var err error
			if s.m, err = session.New(first.store, session.Config{Keys: keys, UnsignedUntil: until}); err != nil {
				t.Fatal(err)
			}
			return s
		}
		read := func(s *site, cookie string) int64 {
			_, got := s.send(http.Header{"Cookie": {cookie}}, nil)
			return got
		}
		unsigned := first.known()
		one := with([][]byte{key(1)}, time.Now().Add(time.Hour))
		if read(one, unsigned.cookie) != 1 {
			t.Error("the first key signs out those without a signature before UnsignedUntil")
		}
		moved := &visitor{site: one, cookie: unsigned.cookie}
		moved.do(renew)
		if len(moved.cookie) != len(unsigned.cookie)+24 {
			t.Errorf("a renewed token is not signed: %d characters", len(moved.cookie))
		}
		two := with([][]byte{key(2), key(1)}, time.Time{})
		if read(two, moved.cookie) != 1 {
			t.Error("the old key is not accepted")
		}
		again := &visitor{site: two, cookie: moved.cookie}
		again.do(renew)
		three := with([][]byte{key(2)}, time.Time{})
		if read(three, again.cookie) != 1 || read(three, moved.cookie) != 0 {
			t.Error("want the new key's token accepted, and the old key's refused")
		}
		if read(first, again.cookie) != 1 {
			t.Error("dropping all keys signs out")
		}
		late := first.known()
		time.Sleep(time.Hour)
		if read(one, late.cookie) != 0 {
			t.Error("unsigned is accepted after UnsignedUntil")
		}
	})
}

// TestNoTokenFromElsewhere: not from a URL, a form, nor, unless asked for, a header.
func TestNoTokenFromElsewhere(t *testing.T) {
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
		t.Error("round trips")
	}
}

// TestUnknownVisitorIsNotStored until the first write.
func TestUnknownVisitorIsNotStored(t *testing.T) {
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
			t.Errorf("who %s: %d, Set-Cookie %q, %d sessions", name, w.Code, cookies(w), s.store.Len())
		}
	}
	if calls := s.store.loads.Load() + s.store.creates.Load() + s.store.applies.Load() + s.store.ends.Load() + s.store.touches.Load(); calls != 0 {
		t.Errorf("%d calls of the store", calls)
	}
}
