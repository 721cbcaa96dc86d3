package demo

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coatcheck-go/session"
)

// signIn signs in whoever the visitor says they are. An application checks a password, a passkey or an identity provider's answer
// first; from there on it is the same: a new session under a new token, and the one before leads nowhere.
func (a *app) signIn(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	name, err := nameOf(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	err = s.SignIn(r.Context(), session.Login{User: name, Device: deviceOf(r.UserAgent()), UserAgent: r.UserAgent()})
	if errors.Is(err, errors.ErrUnsupported) {
		http.Error(w, "This store does not know users, so nobody can sign in.", http.StatusNotImplemented)
		return nil
	}
	if err != nil {
		return err
	}
	a.log.InfoContext(r.Context(), "signed in", "user", name)
	return reply(w, r, s, "signed in as "+name+", under a new token")
}

const maxName = 40 // characters

// nameOf reads the name that the visitor chose. Its error is for the client.
func nameOf(w http.ResponseWriter, r *http.Request) (string, error) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	name := strings.TrimSpace(r.PostFormValue("name"))
	if n := utf8.RuneCountInString(name); n == 0 || n > maxName {
		return "", fmt.Errorf("name is who you want to be in this demo: 1 to %d characters, not %d", maxName, n)
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return "", errors.New("name is who you want to be in this demo: letters, digits and what else can be printed")
	}
	return name, nil
}

// deviceOf guesses a label for people from a User-Agent. Never decide anything by it: clients say what they like.
func deviceOf(userAgent string) string {
	first := func(names [][2]string) string {
		for _, n := range names {
			if strings.Contains(userAgent, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	program := first([][2]string{ // most browsers name those that they descend from, too
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
