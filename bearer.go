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
	if s.owned != nil {
		return "", errUserData
	}
	s.lock()
	defer s.unlock(ctx)
	switch {
	case !s.m.cfg.Bearer:
		return "", errors.New("session: BearerToken needs Config.Bearer")
	case s.state == live && s.response.cookie == keepCookie && s.cred.inCookie():
		return "", errors.New("session: this token came in a cookie, which scripts must not read: Renew it to hand it out")
	}
	s.outcome.fail(s.refusal())
	if s.outcome.err != nil {
		return "", s.outcome.report()
	}
	if s.state == anonymous || len(s.view.ops) > 0 {
		if err := s.sendForBearer(ctx); err != nil {
			return "", s.outcome.returned(err)
		}
	}
	s.response.cookie = handedOut
	if s.response.issued { // beside the new token, an old cookie would make every request ambiguous
		s.response.drop(&s.cred)
	}
	return s.cred.token.Text(s.m.keys), nil
}

// sendForBearer commits for BearerToken. A session that this stores needs no cookie. If it fails,
// also with a panic, the cookie is due as before. The caller holds both locks.
func (s *Session) sendForBearer(ctx context.Context) error {
	before, stored := s.response.cookie, false
	defer func() {
		if !stored && s.response.cookie == handedOut {
			s.response.cookie = before
		}
	}()
	if s.state == anonymous {
		s.response.cookie = handedOut
	}
	_, err := s.send(ctx, nil)
	stored = err == nil
	return err
}

// IsBearer reports whether the session's token came in the Authorization header, and not in a
// cookie. Do not return what only a page may have, such as a CSRF token, to a request for which
// IsBearer is true.
func (s *Session) IsBearer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cred.inHeader
}
