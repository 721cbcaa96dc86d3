package session

import (
	"context"

	"github.com/coatcheck-go/session/driver"
)

// Renew changes the token: call it when a user's privileges change. It commits. The token before is
// dead at once; the handle stays. A session that is not stored has no token to change. If the token
// came in the Authorization header, hand out the new one with [Session.BearerToken]. After nil the
// response carries the new token even if the handler fails or panics later, unless the session has
// ended or has a newer token by then. Errors: those of [Session.Commit].
func (s *Session) Renew(ctx context.Context) error {
	if s.owned != nil {
		return errUserData
	}
	s.lock()
	defer s.unlock(ctx)
	s.outcome.fail(s.refusal())
	if s.outcome.err != nil {
		return s.outcome.report()
	}
	return s.outcome.returned(s.renew(ctx))
}

// renew changes the token. Its error also fails the outcome. The caller holds both locks.
func (s *Session) renew(ctx context.Context) error {
	switch {
	case s.state != live && len(s.view.ops) == 0:
		return nil
	case s.state != live:
		_, err := s.send(ctx, nil)
		return err
	case s.response.sent, s.response.closed:
		s.outcome.fail(ErrHeaderSent)
		return ErrHeaderSent
	}
	t := s.cred.token.Renewed()
	res, err := s.send(ctx, &driver.Renewal{Verifier: t.VerifierHash()})
	if err != nil {
		return err
	}
	r := s.view.record
	if t.Generation = r.Tokens.Generation; res.Record == nil {
		t.Generation++
	}
	// A token that this request issued has not left. The new one is then the session's first.
	first := s.response.issued && !s.response.renewed && s.response.cookie == setCookie
	s.issue(t, s.m.cookieFor(r.Principal, r.Deadline.Sub(s.view.now)))
	s.response.renewed = !first
	s.emit(s.event(EventRenewed, s.cred.id, res.Now))
	if res.Record == nil {
		s.readGeneration(ctx)
	}
	return nil
}

// readGeneration asks for the generation of a token that a renewal issued. Which one that is
// depends on whether the client had used the latest token when the store renewed it.
func (s *Session) readGeneration(ctx context.Context) {
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	r, _, err := s.load(ctx, s.cred.id, s.cred.verifier)
	if err == nil && r.Tokens.Current.Equal(s.cred.verifier) {
		s.cred.token.Generation = r.Tokens.Generation
	}
}
