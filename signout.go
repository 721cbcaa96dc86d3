package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// SignOut ends the session, at once and for all requests, and drops what was not committed. After
// nil the session that this visitor had is over, and the response deletes the cookie. s is then the
// empty session of an unknown visitor: what is set goes into a new session.
//
// Errors:
//   - [ErrEnded] if a sign-in in another request has replaced the session, less than a minute
//     before this request or during it. The new session is alive, nothing has ended, and the cookie
//     stays. A request that first reads the session more than a minute after its beginning, and
//     finds none, gets the same error: the store no longer knows what became of it.
//   - [ErrUnavailable] if the store did not answer. The session may then be alive, the response
//     deletes the cookie, and s takes no changes.
func (s *Session) SignOut(ctx context.Context) error {
	if s.owned != nil {
		return errUserData
	}
	for d := s.opened(); d != nil; d = d.owned.before {
		d.discard()
	}
	return s.signOut(ctx)
}

func (s *Session) signOut(ctx context.Context) error {
	s.lock()
	defer s.unlock(ctx)
	// A sign-in replaced the session, by one that this request does not know.
	if s.state == moved && s.identity.named == nil {
		return ErrEnded
	}
	returned := false
	defer func() {
		if !returned {
			_ = s.signedOut(errors.New("the store panicked"))
		}
	}()
	err := s.endOwn(ctx)
	returned = true
	if errors.Is(err, driver.ErrMoved) {
		s.leave(moved)
		return ErrEnded
	}
	return s.signedOut(err)
}

// signedOut makes s the empty session of an unknown visitor. err is why the session may still be
// alive, or nil.
func (s *Session) signedOut(err error) error {
	s.response.signOut(&s.cred)
	s.outcome.forgive()
	s.view.discard()
	s.view.rebase(nil, s.view.now)
	named := s.identity.named
	s.identity.forget()
	if err != nil {
		s.state, s.identity.named = ended, named
		err = fmt.Errorf("%w: signing out: %v", ErrUnavailable, err)
		s.outcome.fail(err)
		return s.outcome.returned(err)
	}
	s.state = anonymous
	s.cred.found, s.cred.inHeader = false, false
	return nil
}

// leastEndTimeout bounds the end of a session whose read has waited for the store in vain.
const leastEndTimeout = 100 * time.Millisecond

// endOwn ends the session that the request's token names, if there is one. The caller holds both
// locks.
func (s *Session) endOwn(ctx context.Context) error {
	if !s.cred.found {
		return nil
	}
	limited, cancel := s.m.detached(ctx)
	defer cancel()
	if s.waited > 0 {
		// The store has just failed. Do not wait for it twice, but let it note the end.
		limited, cancel = context.WithTimeout(limited, max(s.m.cfg.CommitTimeout-s.waited, leastEndTimeout))
		defer cancel()
	}
	id := s.cred.token.ID()
	had, err := s.storeEnd(limited, id, s.view.record != nil)
	if had {
		s.emit(s.event(EventSignedOut, id, s.m.now()))
	}
	return err
}
