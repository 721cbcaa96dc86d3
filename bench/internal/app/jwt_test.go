package app

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestTokensAreVerified checks that a JWT is not only decoded: a changed token, and a token of
// another algorithm, are refused.
func TestTokensAreVerified(t *testing.T) {
	tokens := map[string]string{}
	for _, name := range []string{JWTHMAC, JWTEdDSA} {
		cookies := serve(t, name, http.MethodPost, FillPath(Long, 0), "").Result().Cookies()
		if len(cookies) != 1 {
			t.Fatalf("%s: %d cookies, want 1", name, len(cookies))
		}
		tokens[name] = cookies[0].Value
	}
	for _, tt := range []struct {
		system, token string
		want          int
	}{
		{JWTHMAC, tokens[JWTHMAC], http.StatusOK},
		{JWTEdDSA, tokens[JWTEdDSA], http.StatusOK},
		{JWTHMAC, tokens[JWTEdDSA], http.StatusUnauthorized},
		{JWTEdDSA, tokens[JWTHMAC], http.StatusUnauthorized},
		{JWTHMAC, changed(tokens[JWTHMAC]), http.StatusUnauthorized},
		{JWTEdDSA, changed(tokens[JWTEdDSA]), http.StatusUnauthorized},
		{JWTHMAC, "", http.StatusNotFound},
	} {
		if got := serve(t, tt.system, http.MethodGet, PathRead, tt.token).Code; got != tt.want {
			t.Errorf("%s with %q: status %d, want %d", tt.system, tt.token, got, tt.want)
		}
	}
}

// TestTokensCarryAllFields checks that a token has as much data as a session.
func TestTokensCarryAllFields(t *testing.T) {
	token := serve(t, JWTHMAC, http.MethodPost, FillPath(Long, 0), "").Result().Cookies()[0].Value
	if want := PayloadSize * 4 / 3; len(token) < want {
		t.Errorf("the token has %d bytes, want at least %d", len(token), want)
	}
}

// serve sends a request to a system in this process. token is the value of its cookie, or "".
func serve(t *testing.T, system, method, path, token string) *httptest.ResponseRecorder {
	t.Helper()
	local, err := OpenLocal(system, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	if token != "" {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: token})
	}
	w := httptest.NewRecorder()
	local.ServeHTTP(w, r)
	return w
}

// changed returns a token with another character in its claims.
func changed(token string) string {
	head, rest, _ := strings.Cut(token, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	at, other := len(claims)/2, "A"
	if claims[at] == 'A' {
		other = "B"
	}
	return head + "." + claims[:at] + other + claims[at+1:] + "." + signature
}
