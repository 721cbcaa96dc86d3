package app

import (
	"crypto/rand"
	"net/http"
)

func init() {
	register(System{Name: Bare, Forgets: true, open: overNetHTTP(func(Options) (Library, error) { return bare{}, nil })})
}

// bare is the application with no session: the limit that reading can reach.
type bare struct{}

func (bare) Handler(next http.Handler) http.Handler { return next }

func (bare) Read(http.ResponseWriter, *http.Request) (int, bool, error) { return 1, true, nil }

func (bare) Add(http.ResponseWriter, *http.Request) error { return nil }

func (bare) Fill(w http.ResponseWriter, _ *http.Request) error {
	newCookie(w)
	return nil
}

func (bare) SignIn(w http.ResponseWriter, _ *http.Request, _ string) error {
	newCookie(w)
	return nil
}

func (bare) SignOut(http.ResponseWriter, *http.Request) error { return nil }

// cookieName is the cookie of the systems that have no library to name it.
const cookieName = "session"

// newCookie gives the visitor a token as long as the libraries' own, and returns it.
func newCookie(w http.ResponseWriter) string {
	token := rand.Text() + rand.Text()[:17]
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // without Secure: the bench speaks plain http on loopback
		Name: cookieName, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return token
}
