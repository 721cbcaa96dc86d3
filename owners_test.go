package session_test

import (
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
)

// TestUserKeyChanged: with another key nobody could sign a user out everywhere, so no session of a user is served until the key is back or
// all have ended; and nobody else notices.
func TestUserKeyChanged(t *testing.T) {
	for _, test := range []struct {
		name        string
		first, then []byte
	}{
		{"the first one", nil, key(1)},
		{"another one", key(1), key(2)},
		{"none any more", key(1), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := newSite(t, session.Config{UserKey: test.first})
			v, stranger := before.user("ada"), before.known()
			after := before.with(session.Config{UserKey: test.then})
			w := v.at(after).do(func(*session.Session) error { t.Error("the session is served"); return nil })
			wantAnswer(t, w, 500)
			if len(cookies(w)) != 0 {
				t.Errorf("Set-Cookie %q: a wrong key signs nobody out", cookies(w))
			}
			if log := before.log.String(); !strings.Contains(log, "Config.UserKey is not the one") || strings.Contains(log, "ada") {
				t.Errorf("the log says %s", log)
			}
			wantAnswer(t, stranger.at(after).do(func(*session.Session) error { return nil }), 200)
			want(t, "with the key back", v.at(before).who(), "ada")

			if err := after.m.RevokeAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			v = v.at(after)
			want(t, "after RevokeAll", v.who(), "")
			v.do(signIn("ada"))
			want(t, "signed in anew", v.who(), "ada")
		})
	}
}
