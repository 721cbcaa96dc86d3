package session_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
)

// TestLoginLifetime: one sign-in may be for less long, whatever is done with it; the next one is as long as any.
func TestLoginLifetime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{Cookie: session.Cookie{Persistent: true}})
		v := s.visitor()
		short := func(ses *session.Session) error {
			return ses.SignIn(t.Context(), session.Login{User: "ada", Lifetime: 10 * time.Minute})
		}
		w := v.do(short)
		if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge != 600 {
			t.Errorf("Set-Cookie %q, want Max-Age 600", cookies(w))
		}
		for range 9 {
			time.Sleep(time.Minute)
			want(t, "user", v.who(), "ada")
			synctest.Wait() // that use is written down
		}
		v.do(renew)
		time.Sleep(time.Minute - time.Millisecond)
		want(t, "user just before the end", v.who(), "ada")
		time.Sleep(time.Millisecond)
		want(t, "user after it", v.who(), "")
		v.do(short)
		v.do(signIn("ada"))
		time.Sleep(time.Hour)
		want(t, "user who signed in again", v.who(), "ada")
	})
}
