package session_test

import (
	"net/http"
	"testing"

	"github.com/coatcheck-go/session"
)

// TestCrossOrigin: another site can neither use the cookie nor have it replaced.
func TestCrossOrigin(t *testing.T) {
	bypass := http.NewCrossOriginProtection()
	bypass.AddInsecureBypassPattern("/{$}")
	trusting := http.NewCrossOriginProtection()
	if err := trusting.AddTrustedOrigin("https://partner.example"); err != nil {
		t.Fatal(err)
	}
	cross := map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
	for _, tt := range []struct {
		name          string
		cfg           session.Config
		method        string
		header        map[string]string
		known, writes bool
		status        int
		ran           bool
		setCookie     int
	}{
		{"same origin", session.Config{}, "POST", map[string]string{"Sec-Fetch-Site": "same-origin"}, true, true, 200, true, 0},
		{"not a browser", session.Config{}, "POST", nil, true, true, 200, true, 0},
		{"with the cookie", session.Config{}, "POST", cross, true, true, 403, false, 0},
		{"with the cookie, only reads", session.Config{}, "POST", cross, true, false, 403, false, 0},
		{"DELETE with the cookie", session.Config{}, "DELETE", cross, true, true, 403, false, 0},
		{"origin of an older browser", session.Config{}, "POST", map[string]string{"Origin": "https://evil.example"}, true, true, 403, false, 0},
		{"a neighbour", session.Config{}, "POST", map[string]string{"Sec-Fetch-Site": "same-site"}, true, true, 403, false, 0},
		{"GET", session.Config{}, "GET", cross, true, true, 200, true, 0},
		{"without the cookie, writes", session.Config{}, "POST", cross, false, true, 403, true, 0},
		{"without the cookie, only reads", session.Config{}, "POST", cross, false, false, 200, true, 0},
		{"listed route", session.Config{CrossOrigin: bypass}, "POST", cross, true, true, 200, true, 0},
		{"listed route, without the cookie", session.Config{CrossOrigin: bypass}, "POST", cross, false, true, 200, true, 1},
		{"trusted origin", session.Config{CrossOrigin: trusting}, "POST",
			map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://partner.example"}, true, true, 200, true, 0},
		{"somebody else's bearer token beside the cookie", session.Config{Bearer: true}, "POST",
			map[string]string{"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer x"}, true, true, 403, false, 0},
	} {
		s := newSite(t, tt.cfg)
		v, want := s.visitor(), int64(0)
		if tt.known {
			v, want = s.known(), 1
		}
		cookie := v.cookie
		v.header = tt.header
		ran := false
		w := v.request(tt.method, s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			ran = true
			if tt.writes {
				n.Add(ses, 10)
			}
			return nil
		})))
		if w.Code != tt.status || ran != tt.ran || len(cookies(w)) != tt.setCookie {
			t.Errorf("%s: %d, handler ran: %v, Set-Cookie %q; want %d, %v, %d", tt.name, w.Code, ran, cookies(w), tt.status, tt.ran, tt.setCookie)
		}
		if tt.status == 200 && tt.writes {
			want += 10
		}
		v.header = nil
		if got := v.count(); got != want {
			t.Errorf("%s: n = %d, want %d", tt.name, got, want)
		}
		if tt.setCookie == 0 && v.cookie != cookie {
			t.Errorf("%s: the cookie changed", tt.name)
		}
	}
}

// TestCrossOriginBearer: a header is not sent by browsers of themselves, so there is nothing to guard.
func TestCrossOriginBearer(t *testing.T) {
	s := newSite(t, session.Config{Bearer: true})
	v := s.visitor()
	v.header = map[string]string{"Authorization": "Bearer " + s.bearer(t), "Sec-Fetch-Site": "cross-site"}
	w := v.request("POST", s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		n.Add(ses, 1)
		return nil
	})))
	if w.Code != 200 || v.count() != 2 {
		t.Errorf("%d, n = %d", w.Code, v.count())
	}
}
