package app

import (
	"crypto/rand"
	"net/http"
)

func init() {
	open := func(Options) (Library, error) { return bare{}, nil }
	register(System{Name: Bare, Role: Limit, open: overNetHTTP(open)})
}

// bare is the application without sessions: no library can read faster.
type bare struct{}

func (bare) Handler(next http.Handler) http.Handler { return next }

func (bare) Read(http.ResponseWriter, *http.Request) (int, bool, error) { return 1, true, nil }

func (bare) Add(http.ResponseWriter, *http.Request) error { return nil }

func (bare) Fill(w http.ResponseWriter, _ *http.Request, _ map[string]string) error {
	newCookie(w)
	return nil
}

func (bare) SignIn(w http.ResponseWriter, _ *http.Request, _ string) error {
	newCookie(w)
	return nil
}

func (bare) SignOut(http.ResponseWriter, *http.Request) error { return nil }

// cookieName is the name of the cookie, where the library does not choose it.
const cookieName = "session"

// newCookie sets a cookie with a token that is as long as those of the libraries. It returns the
// token.
func newCookie(w http.ResponseWriter) string {
	token := rand.Text() + rand.Text()[:17]
	setCookie(w, token)
	return token
}

// setCookie sets a cookie with a token.
func setCookie(w http.ResponseWriter, token string) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // without Secure, because the load is plain HTTP
		Name: cookieName, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}
