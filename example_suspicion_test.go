package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// A session that comes back from another browser than the one that signed in may have been stolen. What to make of it is the
// application's: here somebody has to sign in again. Browsers update themselves, so compare what an update leaves alone.
func ExampleSession_Info() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	sameBrowser := func(next session.HandlerFunc) session.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			if s.User() != "" && s.Info().UserAgent != r.UserAgent() {
				return session.ErrNotFresh // answered 401; Session.SignOut would end it for whoever it belongs to, too
			}
			return next(w, r, s)
		}
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada", UserAgent: r.UserAgent()})
	}
	account := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := fmt.Fprintf(w, "%s's account\n", s.User())
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/login", session.HandlerFunc(login))
	mux.Handle("/account", session.Route{SignedIn: true}.Handler(sameBrowser(account)))
	handler := sessions.Handler(mux)

	visit := func(path, userAgent, cookie string) *http.Response {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("User-Agent", userAgent)
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Print(w.Body)
		return w.Result()
	}
	cookie := visit("/login", "Firefox", "").Cookies()[0]
	visit("/account", "Firefox", cookie.Name+"="+cookie.Value)
	visit("/account", "curl", cookie.Name+"="+cookie.Value)
	// Output:
	// ada's account
	// Please sign in again.
}
