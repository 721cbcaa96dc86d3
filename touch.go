package session

import (
	"context"
	"errors"

	"github.com/coatcheck-go/session/driver"
)

// maxTouches bounds the touches that run at the same time. A later request of the session writes
// what is over the bound.
const maxTouches = 64

// touch writes to the store that the session was used, if that is due. It does not delay the
// response, and its failure does not fail the request.
func (m *Manager) touch(ctx context.Context, s *Session) {
	id, verifier, due := s.dueTouch()
	if !due {
		return
	}
	select {
	case m.touches <- struct{}{}:
	default:
		return
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer func() { <-m.touches }()
		ctx, cancel := context.WithTimeout(ctx, m.cfg.CommitTimeout)
		defer cancel()
		err := m.store.Touch(ctx, id, verifier)
		if err != nil && !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, driver.ErrMoved) {
			m.cfg.Logger.WarnContext(ctx, "session: a use was not written to the store; a later one will be",
				"session", id.String(), "error", err)
		}
	}()
}

func (s *Session) dueTouch() (id driver.ID, verifier driver.Hash, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cred.id, s.cred.verifier, s.touchIsDue()
}
