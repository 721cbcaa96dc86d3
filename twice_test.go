package session_test

import (
	"errors"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// TestRevokedBetweenTries: of a sign-in that is tried twice the second try is not a later authentication.
func TestRevokedBetweenTries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		first := true
		s.store.after = func(call string) error {
			if call != "signin" || !first {
				return nil
			}
			first = false
			time.Sleep(20 * time.Millisecond)
			if _, err := s.m.RevokeUser(t.Context(), "ada"); err != nil {
				t.Error(err)
			}
			time.Sleep(50 * time.Millisecond) // until it is known that the outcome is not
			return driver.ErrUnknown
		}
		v := s.visitor()
		if w := v.do(signIn("ada")); w.Code != 401 || v.who() != "" {
			t.Errorf("%d, and %q is signed in; want 401 and nobody: she was revoked after it began", w.Code, v.who())
		}
	})
}

// TestUnknownTwice: a second try that is not sent does not make the outcome of the first one known.
func TestUnknownTwice(t *testing.T) {
	for call, change := range map[string]func(*session.Session) error{
		"signin": signIn("ada"),
		"create": func(ses *session.Session) error { n.Add(ses, 1); return ses.Commit(t.Context()) },
		"apply":  func(ses *session.Session) error { return ses.Renew(t.Context()) },
	} {
		s := newSite(t, session.Config{})
		v := s.visitor()
		if call != "create" {
			v = s.known()
		}
		s.store.after = func(c string) error {
			if c != call {
				return nil
			}
			s.store.fail(call, errDown)
			return driver.ErrUnknown
		}
		v.do(func(ses *session.Session) error {
			err := change(ses)
			if !errors.Is(err, session.ErrUnknownOutcome) {
				t.Errorf("%s: %v, want ErrUnknownOutcome", call, err)
			}
			return err
		})
	}
}
