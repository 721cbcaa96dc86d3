package account

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/page"
)

// signIn signs the visitor in under any name. A real application first checks a password, a passkey
// or the response of an identity provider. The rest is the same: SignIn creates a new session with
// a new token, and the old token stops working.
func (a *account) signIn(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	name, err := nameOf(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	err = s.SignIn(r.Context(), session.Login{User: name, Device: deviceOf(r.UserAgent()), UserAgent: r.UserAgent()})
	if errors.Is(err, errors.ErrUnsupported) {
		http.Error(w, "This store does not support users, so nobody can sign in.", http.StatusNotImplemented)
		return nil
	}
	if err != nil {
		return err
	}
	a.Log.InfoContext(r.Context(), "signed in", "user", name)
	return reply(w, r, s, "signed in as "+name+", with a new token")
}

// signOut ends the session, also for running requests. After that, the old cookie finds no session.
func (a *account) signOut(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if err := s.SignOut(r.Context()); err != nil {
		return err
	}
	a.Log.InfoContext(r.Context(), "signed out")
	if page.Accepts(r, "text/html") {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	return page.WriteText(w, "signed out")
}

const maxName = 40 // characters

// nameOf reads the name that the visitor has chosen. Its error is for the client.
func nameOf(w http.ResponseWriter, r *http.Request) (string, error) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	name := strings.TrimSpace(r.PostFormValue("name"))
	if n := utf8.RuneCountInString(name); n == 0 || n > maxName {
		return "", fmt.Errorf("name must have 1 to %d characters, not %d", maxName, n)
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return "", errors.New("name must have printable characters only")
	}
	return name, nil
}

// deviceOf guesses a label from a User-Agent. The label is for display only: a client can send any
// User-Agent.
func deviceOf(userAgent string) string {
	first := func(names [][2]string) string {
		for _, n := range names {
			if strings.Contains(userAgent, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	program := first([][2]string{ // the order matters: most browsers also name their ancestors
		{"curl/", "curl"}, {"Edg", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
		{"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Safari/", "Safari"},
	})
	system := first([][2]string{
		{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"}, {"Mac OS X", "Mac"},
		{"CrOS", "ChromeOS"}, {"Linux", "Linux"},
	})
	switch {
	case program == "" && system == "":
		return "Unknown device"
	case program == "" || system == "":
		return program + system
	}
	return program + " on " + system
}
