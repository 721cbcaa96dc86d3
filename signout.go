package session

import (
	"context"
	"fmt"
)

// SignOut ends the session, at once and for all requests, and drops what was not committed. The
// response deletes the cookie, also if the store does not answer. Afterwards s is the empty session
// of an unknown visitor: what is set then goes into a new session.
//
// It returns [ErrUnavailable] if the store did not answer. The session may then be alive, and s takes
// no changes.
func (s *Session) SignOut(ctx context.Context) error {
	s.lock()
	defer s.unlock(ctx)
	before := s.state
	s.response.signOut(&s.cred, before == moved)
	s.outcome.forgive()
	err := s.endOwn(ctx)
	s.view.discard()
	s.view.rebase(nil, s.view.now)
	s.identity = identity{named: s.identity.named}
	switch {
	case err != nil:
		s.state = ended
		s.outcome.fail(fmt.Errorf("%w: signing out: %v", ErrUnavailable, err))
		return s.outcome.report()
	case before == moved: // the browser has a newer cookie
		s.state = moved
	default:
		s.state = anonymous
	}
	s.identity.named = nil
	s.cred.found, s.cred.inHeader = false, false
	return nil
}

// endOwn ends the session that the request's token names, if there is one. The caller holds both
// locks.
func (s *Session) endOwn(ctx context.Context) error {
	if !s.cred.found {
		return nil
	}
	limited, cancel := s.m.detached(ctx)
	defer cancel()
	id := s.cred.token.ID()
	had, err := s.storeEnd(limited, id, s.view.record != nil)
	if had {
		s.emit(s.event(EventSignedOut, id, s.m.now()))
	}
	return err
}
