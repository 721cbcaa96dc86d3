package session_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
)

// TestChallenge: a client learns what is missing, and nothing else (RFC 9470).
func TestChallenge(t *testing.T) {
	const prefix = `Bearer realm="session"`
	const insufficient, old, low = prefix + `, error="insufficient_user_authentication", error_description="`,
		`More recent authentication is required"`, `A different authentication level is required"`
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.visitor()
		v.do(func(ses *session.Session) error {
			return ses.SignIn(t.Context(), session.Login{User: "ada", Methods: []string{"pwd"}, Level: 1})
		})
		time.Sleep(10 * time.Minute)
		for _, tt := range []struct {
			name, want, log string
			route           session.Route
		}{
			{"enough", "", "", session.Route{SignedIn: true, MaxAuthAge: 10 * time.Minute, MinLevel: 1, AuthMethods: []string{"pwd"}}},
			{"old", insufficient + old + `, max_age="300"`, "one no older than 5m0s", session.Route{MaxAuthAge: 5 * time.Minute, MinLevel: 1}},
			{"low", insufficient + low + `, acr_values="2"`, "level 2", session.Route{MaxAuthAge: time.Hour, MinLevel: 2}},
			{"old and low", insufficient + old + `, max_age="0", acr_values="3"`, "level 3", session.Route{MaxAuthAge: time.Millisecond, MinLevel: 3}},
			{"method", insufficient + low, "otp", session.Route{AuthMethods: []string{"pwd", "otp"}}},
			{"a negative age", insufficient + old + `, max_age="0"`, "no older than -1h0m0s", session.Route{MaxAuthAge: -time.Hour}},
		} {
			w := v.handle(tt.route.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
			status := 401
			if tt.want == "" {
				status = 200
			}
			wantAnswer(t, w, status)
			want(t, tt.name, w.Result().Header.Get("WWW-Authenticate"), tt.want)
			if !strings.Contains(s.log.String(), tt.log) {
				t.Errorf("%s: the log does not say what is missing: %s", tt.name, s.log)
			}
		}
		w := s.visitor().handle(session.Route{SignedIn: true, MaxAuthAge: 1}.Handler(http.NotFoundHandler()))
		want(t, "nobody", w.Result().Header.Get("WWW-Authenticate"), prefix)
	})
}

// TestFreshnessOfALongRequest: what was fresh when a stream began is not fresh for ever.
func TestFreshnessOfALongRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.visitor()
		v.do(func(ses *session.Session) error { return ses.SignIn(t.Context(), session.Login{User: "ada"}) })
		recently := session.Route{MaxAuthAge: 10 * time.Minute}
		w := v.handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			time.Sleep(10 * time.Minute)
			if err := recently.Check(r.Context()); err != nil {
				t.Errorf("after 10 min: %v", err)
			}
			time.Sleep(time.Millisecond)
			if err := recently.Check(r.Context()); !errors.Is(err, session.ErrNotFresh) {
				t.Errorf("later: %v", err)
			}
			if err := ses.SignIn(r.Context(), session.Login{User: "ada"}); err != nil {
				t.Error(err)
			}
			return recently.Check(r.Context()) // authenticated again in this very request
		}))
		want(t, "status", w.Code, 200)
	})
}
