package session

import (
	"context"
	"errors"

	"github.com/coatcheck-go/session/driver"
)

// Renew changes the token: call it when a user's privileges change. It commits. The token before is
// dead at once; the handle stays. A session that is not stored has no token to change. If the token
// came in the Authorization header, hand out the new one with [Session.BearerToken]. Errors: those of
// [Session.Commit].
func (s *Session) Renew(ctx context.Context) error {
	s.lock()
	defer s.unlock(ctx)
	s.outcome.fail(s.refusal())
	if s.outcome.err == nil {
		s.renew(ctx)
	}
	return s.outcome.report()
}

// renew changes the token. Its error becomes the outcome. The caller holds both locks.
func (s *Session) renew(ctx context.Context) {
	switch {
	case s.state != live:
		if len(s.view.ops) > 0 {
			_, _ = s.send(ctx, nil, nil)
		}
		return
	case s.response.sent:
		s.outcome.fail(ErrHeaderSent)
		return
	}
	t := s.cred.token.Renewed()
	t.Generation = s.view.record.Tokens.Generation + 1 // the request's own token may be the one before
	res, err := s.send(ctx, nil, &driver.Renewal{Verifier: t.VerifierHash()})
	if err != nil {
		return
	}
	s.issue(t)
	s.emit(s.event(EventRenewed, s.cred.id, res.Now))
}

// BearerToken returns the session's token, for a client that sends it as "Authorization: Bearer". It
// commits, and stores the session if it was not stored. It needs Config.Bearer.
//
// The response sets no cookie for this token. It deletes a cookie that opens no session. BearerToken
// refuses to hand out a token that came in a cookie, since scripts must not get that one: call
// [Session.Renew] first. Other errors: those of [Session.Commit].
func (s *Session) BearerToken(ctx context.Context) (string, error) {
	s.lock()
	defer s.unlock(ctx)
	switch {
	case !s.m.cfg.Bearer:
		return "", errors.New("session: BearerToken needs Config.Bearer")
	case s.state == live && s.response.cookie == keepCookie && s.cred.inCookie():
		return "", errors.New("session: this token came in a cookie, which scripts must not read: Renew it to hand it out")
	}
	s.outcome.fail(s.refusal())
	if s.outcome.err == nil && (s.state == anonymous || len(s.view.ops) > 0) {
		if s.state == anonymous {
			s.response.cookie = handedOut
		}
		_, _ = s.send(ctx, nil, nil) // its error is the outcome
	}
	if err := s.outcome.report(); err != nil {
		return "", err
	}
	s.response.cookie = handedOut
	return s.cred.token.Text(s.m.keys), nil
}
