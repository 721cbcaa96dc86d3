package session_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
)

// mustBearerToken returns the token of a new session in which n is 1, for a client of an API.
func (s *site) mustBearerToken(t *testing.T) string {
	t.Helper()
	var token string
	w := s.visitor().do(func(ses *session.Session) (err error) {
		n.Add(ses, 1)
		token, err = ses.BearerToken(t.Context())
		return err
	})
	if w.Code != 200 || len(cookies(w)) != 0 || w.Result().Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("BearerToken: %d, Set-Cookie %q, %v", w.Code, cookies(w), w.Result().Header)
	}
	return token
}

// TestAuthorizationHeaderSelectsTheSession: the header and the cookie may both carry a token. Two
// different tokens are an error. A bearer token that opens no session cannot write, because a new
// session could not be handed back. What is no token of ours is another program's, and is ignored.
func TestAuthorizationHeaderSelectsTheSession(t *testing.T) {
	s := newSite(t, session.Config{Bearer: true})
	token, v := s.mustBearerToken(t), s.known()
	v.do(func(ses *session.Session) error { n.Add(ses, 41); return nil })
	mine := strings.TrimPrefix(v.cookie, "__Host-session-anon=")
	const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
	for _, tt := range []struct {
		name          string
		authorization []string
		cookie        string
		status        int
		n             int64
		write         int // the status of a write
		setCookie     int // how many cookies a write sets
	}{
		{"header", []string{"Bearer " + token}, "", 200, 1, 200, 0},
		{"scheme in lower case", []string{"bearer " + token}, "", 200, 1, 200, 0},
		{"spaces", []string{"Bearer   " + token + " "}, "", 200, 1, 200, 0},
		{"cookie", nil, v.cookie, 200, 42, 200, 0},
		{"both the same", []string{"Bearer " + mine}, v.cookie, 200, 42, 200, 0},
		{"two different", []string{"Bearer " + token}, v.cookie, 400, -1, 400, 0},
		{"two different headers", []string{"Bearer " + token, "Bearer " + mine}, "", 400, -1, 400, 0},
		{"header beside a malformed cookie", []string{"Bearer " + token}, "__Host-session=evil", 200, 1, 200, 0},
		{"unknown", []string{"Bearer " + flip(token, 10)}, "", 200, 0, 401, 0},
		{"truncated", []string{"Bearer " + token[1:]}, "", 200, 0, 200, 1},
		{"empty", []string{"Bearer "}, "", 200, 0, 200, 1},
		{"another issuer's", []string{"Bearer " + jwt}, "", 200, 0, 200, 1},
		{"another issuer's beside a cookie", []string{"Bearer " + jwt}, v.cookie, 200, 42, 200, 0},
		{"another scheme", []string{"Basic " + token}, "", 200, 0, 200, 1},
		{"no scheme", []string{token}, "", 200, 0, 200, 1},
	} {
		h := http.Header{}
		if tt.authorization != nil {
			h["Authorization"] = tt.authorization
		}
		if tt.cookie != "" {
			h.Set("Cookie", tt.cookie)
		}
		if w, got := s.send(h, nil); w.Code != tt.status || got != tt.n {
			t.Errorf("%s: %d, n = %d; want %d, %d", tt.name, w.Code, got, tt.status, tt.n)
		}
		before := s.store.Len()
		w, _ := s.send(h, func(ses *session.Session) error { theme.Set(ses, "dark"); return nil })
		if w.Code != tt.write || len(cookies(w)) != tt.setCookie || s.store.Len()-before != tt.setCookie {
			t.Errorf("%s: a write gets %d, Set-Cookie %q, %d new sessions; want %d, %d", tt.name, w.Code, cookies(w),
				s.store.Len()-before, tt.write, tt.setCookie)
		}
		if w.Code == 401 && !strings.HasPrefix(w.Result().Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: 401 without WWW-Authenticate", tt.name)
		}
	}
	for name, f := range map[string]func(*session.Session) error{"read": nil, "signed out": signOut} {
		bearer := http.Header{"Authorization": {"Bearer " + token}}
		cookie := http.Header{"Cookie": {"__Host-session=" + token}}
		for _, h := range []http.Header{bearer, cookie, {}} {
			w, _ := s.send(h, f)
			if got := w.Result().Header["Vary"]; !slices.Equal(got, []string{"Cookie", "Authorization"}) {
				t.Errorf("%s, with %v: Vary %q, want Cookie and Authorization", name, h, got)
			}
		}
	}
}

// TestBearerTokenIsNoCookieToken: a handler never gets a token that is in a cookie.
func TestBearerTokenIsNoCookieToken(t *testing.T) {
	ctx := t.Context()
	t.Run("without Config.Bearer", func(t *testing.T) {
		s := newSite(t, session.Config{})
		s.visitor().do(func(ses *session.Session) error {
			if token, err := ses.BearerToken(ctx); err == nil || token != "" {
				t.Errorf("%q, %v", token, err)
			}
			return nil
		})
	})
	t.Run("in a cookie", func(t *testing.T) {
		s := newSite(t, session.Config{Bearer: true})
		v := s.known()
		v.do(func(ses *session.Session) error {
			if token, err := ses.BearerToken(ctx); err == nil || token != "" {
				t.Errorf("BearerToken returns a token that is in a cookie; error %v", err)
			}
			return nil
		})
		if v.count() != 1 {
			t.Error("BearerToken changed the session")
		}
	})
	t.Run("in a cookie that was just sent", func(t *testing.T) {
		s := newSite(t, session.Config{Bearer: true})
		s.visitor().serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			w.Write([]byte("page"))
			if token, err := ses.BearerToken(ctx); err == nil || token != "" {
				t.Errorf("BearerToken returns a token that is in a cookie; error %v", err)
			}
			return nil
		})
	})
	t.Run("renewed, before the cookie is sent", func(t *testing.T) {
		s := newSite(t, session.Config{Bearer: true})
		v := s.known()
		old := v.tab()
		var token string
		w := v.do(func(ses *session.Session) (err error) {
			if err = renew(ses); err == nil {
				token, err = ses.BearerToken(ctx)
			}
			return err
		})
		if w.Code != 200 || v.cookie != "" || old.count() != 0 {
			t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
		}
		if _, got := s.send(http.Header{"Authorization": {"Bearer " + token}}, nil); got != 1 {
			t.Errorf("n = %d", got)
		}
	})
	t.Run("of an ended session", func(t *testing.T) {
		s := newSite(t, session.Config{Bearer: true})
		token := s.mustBearerToken(t)
		w, _ := s.send(http.Header{"Authorization": {"Bearer " + token}}, func(ses *session.Session) error {
			s.store.mustEndAll(t)
			n.Add(ses, 1)
			_, err := ses.BearerToken(ctx)
			return err
		})
		mustAnswer(t, w, 409)
	})
}

// TestBearerTokenDeletesADeadCookie: a cookie whose token is no longer valid is deleted when
// BearerToken returns another token. Otherwise the client would send two different tokens from then
// on. A valid cookie stays.
func TestBearerTokenDeletesADeadCookie(t *testing.T) {
	for name, f := range map[string]func(*session.Session) error{
		"sign-in": signIn("ada"), "renewal": renew,
		"sign-out": func(ses *session.Session) error {
			err := ses.SignOut(t.Context())
			n.Add(ses, 1)
			return err
		},
		"unknown": increment,
	} {
		s := newSite(t, session.Config{Bearer: true})
		v := s.known()
		if name == "unknown" {
			s.store.mustEndAll(t)
		}
		var token string
		w := v.do(func(ses *session.Session) (err error) {
			if err = f(ses); err == nil {
				token, err = ses.BearerToken(t.Context())
			}
			return err
		})
		if w.Code != 200 || v.cookie != "" || len(cookies(w)) != 1 ||
			w.Result().Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, Set-Cookie %q; want the cookie deleted", name, w.Code, cookies(w))
		}
		for _, h := range []http.Header{
			{"Authorization": {"Bearer " + token}},
			{"Authorization": {"Bearer " + token}, "Cookie": {"__Host-session=" + token}},
		} {
			w, _ := s.send(h, func(ses *session.Session) error {
				got, err := ses.BearerToken(t.Context())
				mustEqual(t, name+": the token", got, token)
				return err
			})
			if w.Code != 200 || len(cookies(w)) != 0 {
				t.Errorf("%s: then %d, Set-Cookie %q", name, w.Code, cookies(w))
			}
		}
	}
}

// TestBearerRenewalSetsNoCookie: BearerToken returns the new token.
func TestBearerRenewalSetsNoCookie(t *testing.T) {
	s := newSite(t, session.Config{Bearer: true})
	token := s.mustBearerToken(t)
	var next string
	w, _ := s.send(http.Header{"Authorization": {"Bearer " + token}}, func(ses *session.Session) (err error) {
		if err = renew(ses); err == nil {
			next, err = ses.BearerToken(t.Context())
		}
		return err
	})
	if w.Code != 200 || len(cookies(w)) != 0 || next == token {
		t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
	}
	if _, got := s.send(http.Header{"Authorization": {"Bearer " + token}}, nil); got != 0 {
		t.Error("the old token still works")
	}
	if _, got := s.send(http.Header{"Authorization": {"Bearer " + next}}, nil); got != 1 {
		t.Error("the new token does not work")
	}
	w, _ = s.send(http.Header{"Authorization": {"Bearer " + next}}, signOut)
	if w.Code != 200 || len(cookies(w)) != 0 || s.store.Len() != 0 {
		t.Errorf("sign-out: %d, Set-Cookie %q, %d sessions", w.Code, cookies(w), s.store.Len())
	}
}

// TestBearerSignInSetsNoCookie: a client of an API signs in with its token or without one.
// BearerToken returns the new token.
func TestBearerSignInSetsNoCookie(t *testing.T) {
	s := newSite(t, session.Config{Bearer: true, KeepFields: []string{"n"}})
	for _, header := range []string{"", "Bearer " + s.mustBearerToken(t)} {
		var token string
		h := http.Header{}
		if header != "" {
			h.Set("Authorization", header)
		}
		w, _ := s.send(h, func(ses *session.Session) (err error) {
			if err = signIn("ada")(ses); err == nil {
				token, err = ses.BearerToken(t.Context())
			}
			return err
		})
		if w.Code != 200 || len(cookies(w)) != 0 || "Bearer "+token == header {
			t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
		}
		user := ""
		s.send(http.Header{"Authorization": {"Bearer " + token}},
			func(ses *session.Session) error { user = ses.User(); return nil })
		mustEqual(t, "user", user, "ada")
		if header != "" {
			_, got := s.send(h, nil)
			mustEqual(t, "n under the old token", got, 0)
		}
	}
}

// TestBearerTokensDoNotRotate: a client of an API has no way to receive a new token, with a cookie
// or without one.
func TestBearerTokensDoNotRotate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newSiteWithEvents(t, session.Config{RotateEvery: rotateEvery, Bearer: true, FirstUseTimeout: 2 * time.Hour})
		token := s.mustBearerToken(t)
		l.drain()
		for _, cookie := range []string{"", "__Host-session=" + token} {
			time.Sleep(rotateEvery)
			v := s.visitor()
			v.cookie, v.header["Authorization"] = cookie, "Bearer "+token
			if w := v.do(increment); w.Code != 200 || len(cookies(w)) != 0 {
				t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
			}
		}
		l.mustReport(t, "requests with a bearer token")
	})
}

// TestIsBearerTellsTheHeaderFromTheCookie: a handler that hands out tokens must not give a cookie's
// token to a script.
func TestIsBearerTellsTheHeaderFromTheCookie(t *testing.T) {
	s := newSite(t, session.Config{Bearer: true})
	bearer, cookie := "Bearer "+s.mustBearerToken(t), s.known().cookie
	for name, tt := range map[string]struct {
		h    http.Header
		want bool
	}{
		"header":                               {http.Header{"Authorization": {bearer}}, true},
		"cookie":                               {http.Header{"Cookie": {cookie}}, false},
		"another issuer's token and a cookie":  {http.Header{"Authorization": {"Bearer x"}, "Cookie": {cookie}}, false},
		"none":                                 {http.Header{}, false},
		"header, signed in during the request": {http.Header{"Authorization": {bearer}}, true},
	} {
		s.send(tt.h, func(ses *session.Session) error {
			if strings.Contains(name, "signed in") {
				if err := signIn("ada")(ses); err != nil {
					t.Errorf("SignIn: %v", err)
				}
			}
			mustEqual(t, name, ses.IsBearer(), tt.want)
			return nil
		})
	}
}

// TestSignInBesideAnotherIssuersTokenSetsTheCookie: a proxy may add an Authorization header of its
// own to the requests of a browser.
func TestSignInBesideAnotherIssuersTokenSetsTheCookie(t *testing.T) {
	s := newSite(t, session.Config{Bearer: true})
	v := s.visitor()
	v.header["Authorization"] = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
	w := v.do(signIn("ada"))
	if w.Code != 200 || len(newTokens(w)) != 1 || v.who() != "ada" {
		t.Errorf("%d, Set-Cookie %q, user %q", w.Code, cookies(w), v.who())
	}
}

// TestCrossOriginAllowsBearerRequests: browsers do not send the Authorization header by themselves.
func TestCrossOriginAllowsBearerRequests(t *testing.T) {
	s := newSite(t, session.Config{Bearer: true})
	v := s.visitor()
	v.header = map[string]string{"Authorization": "Bearer " + s.mustBearerToken(t), "Sec-Fetch-Site": "cross-site"}
	w := v.request("POST",
		s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			return nil
		})))
	if w.Code != 200 || v.count() != 2 {
		t.Errorf("%d, n = %d", w.Code, v.count())
	}
}

// TestCSRFExemptsBearerRequests: browsers do not send a bearer token by themselves. A cookie beside
// an invalid Authorization header still needs a CSRF token.
func TestCSRFExemptsBearerRequests(t *testing.T) {
	s := newSite(t, session.Config{CSRF: true, Bearer: true})
	bearer := s.mustBearerToken(t)
	v := s.known()
	for _, tt := range []struct {
		name, authorization string
		v                   *visitor
		status              int
	}{
		{"bearer", "Bearer " + bearer, s.visitor(), 200},
		{"invalid bearer token and the cookie", "Bearer x", v, 403},
		{"basic and the cookie", "Basic eDp5", v, 403},
	} {
		w, _ := tt.v.post("POST", http.Header{"Authorization": {tt.authorization}}, "")
		mustEqual(t, tt.name, w.Code, tt.status)
	}
}
