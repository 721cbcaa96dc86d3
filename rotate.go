package session

import (
	"context"
	"errors"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// minRotateEvery leaves the record time to forget a renewal, and requests under way time to end.
const minRotateEvery = driver.SupersededFor

// rotation is a new token for a session whose own has become old.
type rotation struct {
	token   ticket.Token
	renewal driver.Renewal
}

// dueRotation returns what gives the session a new token, if its own is old and the response can
// carry a cookie; else nil. The store decides whether the token is old, by its own clock: of
// several requests at the same time, one rotates. The caller holds both locks, as for all functions
// here.
func (s *Session) dueRotation(ctx context.Context) *rotation {
	every := s.m.cfg.RotateEvery
	if s.cred.token.IsDerived() { // the old cookie of Adopt stops working with it
		every = minRotateEvery
	}
	switch {
	case every == 0, s.state != live, s.response.sent, s.response.closed:
		return nil
	case s.mode.passive: // the write would be a use of the session
		return nil
	case !s.cred.inCookie(), ctx.Err() != nil: // the new token would not reach the client
		return nil
	case s.response.cookie != keepCookie, s.response.rotatedTo != nil:
		return nil // a new token is on its way already
	}
	r := s.view.record
	renewal := driver.Renewal{Grace: driver.RotationGrace, MinAge: every}
	if !r.RenewalDue(&renewal, s.cred.verifier, s.view.now) {
		return nil
	}
	t := s.cred.token.Renewed()
	t.Generation = r.Tokens.Generation
	if r.Tokens.Current.Equal(s.cred.verifier) {
		t.Generation++
	}
	renewal.Verifier = t.VerifierHash()
	return &rotation{t, renewal}
}

// rotate commits a rotation and nothing else. If it fails, the request does not: its own token
// stays good, also if the outcome is unknown.
func (s *Session) rotate(ctx context.Context, rot *rotation) {
	limited, cancel := s.m.detached(ctx)
	defer cancel()
	c := driver.Change{Verifier: s.cred.verifier, Renew: &rot.renewal, MaxSize: s.m.cfg.MaxSize}
	res, err := s.storeApply(limited, &c)
	switch {
	case err == nil:
		if res.Record != nil {
			s.become(res.Record, res.Now)
		}
		s.rotated(rot, res)
	case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved): // it ended meanwhile
	default:
		s.m.cfg.Logger.WarnContext(ctx, "session: a token was not rotated; a later request will try again",
			"session", s.cred.id.String(), "error", err)
	}
}

// rotated sends the new token, if the rotation took place. The request goes on with its own token:
// to the store, the first use of the new one means that the browser has it.
func (s *Session) rotated(rot *rotation, res *driver.Result) {
	if !res.Renewed {
		return
	}
	r := s.view.record
	s.response.rotatedTo, s.response.cookie = &rot.token, setCookie
	s.response.newCookie = s.m.cookieFor(r.Principal, r.Deadline.Sub(s.view.now))
	s.emit(s.event(EventRotated, s.cred.id, res.Now))
}

// adoptRotated makes the token that the request rotated to its own: the browser has used it, and
// the token before is refused by now. It reports whether there was one.
func (s *Session) adoptRotated() bool {
	t := s.response.rotatedTo
	if t == nil {
		return false
	}
	s.response.rotatedTo = nil
	s.cred.use(*t)
	return true
}
