package session

import (
	"context"
	"errors"
	"time"

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

// rotation returns what gives the session a new token, if its own is old and the response can carry a cookie; else nil. Whether it is old
// the store decides, by its clock: of requests that come to this at the same time one rotates. The caller holds the lock.
func (s *Session) rotation(ctx context.Context) *rotation {
	every := s.m.cfg.RotateEvery
	if every == 0 || s.state != live || s.record == nil || s.readOnly || s.sent {
		return nil
	}
	if s.passive {
		return nil // the write would be a use of the session
	}
	if !s.cred.hasCookie || s.cred.inHeader || s.setToken != keepCookie || s.next != nil || ctx.Err() != nil {
		return nil // the token came in a header, or the request has one on its way, or nobody hears the answer
	}
	n := driver.Renewal{Grace: driver.RotationGrace, MinAge: every}
	if !s.record.Renews(&n, s.verifier, s.now) {
		return nil
	}
	t := s.cred.token.Renewed()
	t.Generation = s.record.Tokens.Generation
	if s.record.Tokens.Current.Equal(s.verifier) {
		t.Generation++
	}
	n.Verifier = t.VerifierHash()
	return &rotation{t, n}
}

// rotate commits what gives the session a new token and nothing else. Its failure is none of the request: the token that it came with
// stays good, also if the outcome is unknown. The caller holds the lock.
func (s *Session) rotate(ctx context.Context, n *rotation) {
	limited, cancel := s.m.detached(ctx)
	defer cancel()
	res, err := s.m.store.Apply(limited, s.id, &driver.Change{Verifier: s.verifier, Renew: &n.renewal, MaxSize: s.m.cfg.MaxSize})
	switch {
	case err == nil:
		if res.Record != nil {
			s.become(res.Record, res.Now)
		}
		s.rotated(n, res)
	case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved): // it ended while the request ran
	default:
		s.m.cfg.Logger.WarnContext(ctx, "session: a token was not rotated; a later request will", "session", s.id.String(), "error", err)
	}
}

// rotated sends the new token, if the rotation took place. Until the browser shows it the request goes on with the one it came with: to the
// store, the first use of the new one means that it has arrived.
func (s *Session) rotated(n *rotation, res *driver.Result) {
	if !res.Renewed {
		return
	}
	s.next, s.setToken = &n.token, setCookie
	s.happened(s.own(EventRotated, s.id, res.Now))
}

// goOn makes the token that the request rotated to its own: the browser has shown it, and the one before is refused by now. It reports
// whether there was one. The caller holds the lock.
func (s *Session) goOn() bool {
	if s.next == nil {
		return false
	}
	s.cred.token, s.verifier, s.next = *s.next, s.next.VerifierHash(), nil
	return true
}

// foreign judges a token that does not open r, the store's own record. The caller holds the lock.
func (s *Session) foreign(ctx context.Context, r *driver.Record, now time.Time) {
	generation := s.cred.token.Generation
	switch {
	case r.Tokens.Stolen(s.verifier, generation, now.Add(-time.Since(s.begun))):
		s.stolen(ctx, now)
	case generation < r.Tokens.Generation: // it changed while the request was under way: the browser has a newer cookie
		s.state = gone
		return
	}
	s.state, s.cred.found = anonymous, false // who holds it may not end the session either
}

// stolen is called when a token was used that the session changed for another long ago. It is in two hands, and nobody can tell which of
// them is the visitor's, so the session ends for both. The request goes on, as that of an unknown visitor.
func (s *Session) stolen(ctx context.Context, now time.Time) {
	logger := s.m.cfg.Logger
	limited, cancel := s.m.detached(ctx)
	defer cancel()
	ended, err := s.end(limited, true)
	switch {
	case err != nil:
		logger.ErrorContext(ctx, "session: a stolen token was used, and the session could not be ended", "session", s.id.String(), "error", err)
	case !ended:
		return // another request was faster
	default:
		logger.WarnContext(ctx, "session: a stolen token was used; the session has ended", "session", s.id.String())
	}
	s.happened(s.own(EventStolen, s.id, now))
	s.theft = true
}
