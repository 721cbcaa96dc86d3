package session

import (
	"context"
	"errors"
)

// BearerToken returns the session's token, for a client that sends it as "Authorization: Bearer".
// It commits, and stores the session if it was not stored. It needs Config.Bearer.
//
// The response sets no cookie for this token. It deletes a cookie that opens no session.
// BearerToken refuses to hand out a token that came in a cookie, since scripts must not get that
// one: call [Session.Renew] first. Other errors: those of [Session.Commit].
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
		before := s.response.cookie
		if s.state == anonymous {
			s.response.cookie = handedOut
		}
		_, err := s.send(ctx, nil, nil) // its error is the outcome
		if err != nil && s.response.cookie == handedOut {
			s.response.cookie = before
		}
	}
	if err := s.outcome.report(); err != nil {
		return "", err
	}
	s.response.cookie = handedOut
	if s.response.issued { // beside the new token, an old cookie would make every request ambiguous
		s.response.drop(&s.cred)
	}
	return s.cred.token.Text(s.m.keys), nil
}

// IsBearer reports whether the session's token came in the Authorization header, and not in a
// cookie. Do not return what only a page may have, such as a CSRF token, to a request for which
// IsBearer is true.
func (s *Session) IsBearer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cred.inHeader
}
