package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// read asks the store for the session that the request's token names. The changes that are not
// committed stay. If the store panics, the session could not be read, whatever was known so far.
// The caller holds both locks, as for all functions of this file.
func (s *Session) read(ctx context.Context) {
	returned := false
	defer func() {
		if !returned {
			s.reset()
			s.cannotRead(fmt.Errorf("%w: it panicked", ErrUnavailable))
		}
	}()
	s.readTokens(ctx)
	returned = true
}

func (s *Session) readTokens(ctx context.Context) {
	if why := s.cred.refusal(); s.state == unread && why != "" && s.m.local {
		s.emitRefused(why, "")
	}
	switch {
	case s.cred.ambiguous:
		s.reset()
		s.response.ambiguous = !s.cred.inHeader
		s.cannotRead(ErrAmbiguous)
	case !s.cred.found:
		s.reset()
		s.state = anonymous
	default:
		s.readToken(ctx)
		s.readOthers(ctx)
	}
}

// reset forgets what was read before.
func (s *Session) reset() {
	s.view.rebase(nil, s.view.now)
	secret := s.identity.secret
	s.identity.forget()
	if s.state == anonymous { // changes made meanwhile are sealed with it
		s.identity.secret = secret
	}
}

// readToken asks the store for the session of the token.
func (s *Session) readToken(ctx context.Context) {
	s.cred.resolve()
	began := time.Now()
	r, now, err := s.load(ctx, s.cred.id, s.cred.verifier)
	s.reset()
	if s.waited = 0; err != nil && !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, driver.ErrMoved) {
		s.waited = time.Since(began)
	}
	switch {
	case err == nil:
		s.open(ctx, r, now)
	case s.endedSinceBegan(err, now):
		s.state = ended
	case errors.Is(err, driver.ErrNotFound) && time.Since(s.began) < driver.SupersededFor:
		s.unknownToken()
	case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved):
		// After SupersededFor the store no longer knows that a token was superseded: the browser
		// may have a newer cookie.
		s.state = moved
	case s.mode.down == DownAnonymous:
		s.degrade(ctx, err)
	case s.mode.down == DownReadOnly && s.openCopy(ctx):
		s.m.cfg.Logger.ErrorContext(ctx, "session: the store is down; the visitor is served from a copy", "error", err)
	default:
		s.cannotRead(fmt.Errorf("%w: %v", ErrUnavailable, err))
	}
}

// endedSinceBegan reports whether err says that the session ended after this request began. now is
// the store's time when it returned err.
func (s *Session) endedSinceBegan(err error, now time.Time) bool {
	var over *driver.EndedError
	if !errors.As(err, &over) {
		return false
	}
	running := time.Since(s.began)
	ago := over.Ago
	if clock, ok := s.m.store.(driver.Clock); ok {
		ago += clock.Now().Sub(now) // this goroutine may have waited since
	}
	return running > ago
}

// readOthers tries the other tokens of the request's cookies, if the first one opens no session.
// Two live sessions under one name of a cookie are an error: the scope of the cookie was changed,
// or a neighbour has planted one. The response then deletes them.
func (s *Session) readOthers(ctx context.Context) {
	first, found := s.cred.token, s.cred.found
	twins := int(s.cred.twins)
	for i, t := range s.cred.others {
		if s.state == anonymous {
			s.cred.use(t)
			s.readToken(ctx)
			if i >= twins { // the rest came under the other name, as this one
				twins = len(s.cred.others)
			}
		} else if i < twins && s.state == live && t.ID() != s.cred.id && s.opens(ctx, t) {
			s.reset()
			s.response.ambiguous = true
			s.cannotRead(ErrAmbiguous)
			return
		}
	}
	switch s.state {
	case anonymous:
		s.cred.token, s.cred.found = first, found
		s.cred.resolve()
	case live:
		s.cred.others = nil // the choice is made
	}
}

// opens reports whether t opens a live session.
func (s *Session) opens(ctx context.Context, t ticket.Token) bool {
	verifier := t.VerifierHash()
	r, now, err := s.load(ctx, t.ID(), verifier)
	if err != nil {
		return false
	}
	status := r.Tokens.Status(verifier, now)
	return status == driver.Current || status == driver.Grace
}

// readAgain reads a session that was read before. One that is not there any more ended while the
// request ran. A token that this request issued still leaves if the store did not answer.
func (s *Session) readAgain(ctx context.Context) {
	had := false
	switch s.state {
	case live, readOnly, ended, moved:
		had = true
	case failed, degraded: // an earlier reading may have succeeded
		had = s.handle.Load() != nil
	}
	s.read(ctx)
	if had && s.state == anonymous {
		s.state = ended
	}
	switch s.state {
	case anonymous, ended, moved:
		s.response.withhold()
	}
}

// open makes r the session if the request's token opens it, and else finds out what the token is.
func (s *Session) open(ctx context.Context, r *driver.Record, now time.Time) {
	s.identity.named = r
	status := r.Tokens.Status(s.cred.verifier, now)
	if status == driver.Unknown && s.adoptRotated() {
		status = r.Tokens.Status(s.cred.verifier, now)
	}
	switch status {
	case driver.Current, driver.Grace:
		err := s.identity.recognize(r)
		switch {
		case err == nil:
			s.become(r, now)
		case s.mode.down == DownAnonymous:
			s.degrade(ctx, err)
		default:
			s.cannotRead(err)
		}
	case driver.Superseded:
		s.state, s.identity.secret = moved, r.Secret
	case driver.Unknown:
		s.judge(ctx, r, now)
	}
}

// openCopy makes this process's copy the session, read-only, if there is one that the token opens.
// A token that does not open the copy may be newer.
func (s *Session) openCopy(ctx context.Context) bool {
	store, ok := s.m.store.(driver.StaleLoader)
	if !ok {
		return false
	}
	r, now, ok := store.LoadStale(s.cred.id)
	if !ok || r.Tokens.Status(s.cred.verifier, now) == driver.Unknown {
		return false
	}
	if s.open(ctx, r, now); s.state == live {
		s.state = readOnly
	}
	return true
}

// judge decides about a token that does not open r, the store's own record.
func (s *Session) judge(ctx context.Context, r *driver.Record, now time.Time) {
	generation, began := s.cred.token.Generation, now.Add(-time.Since(s.began))
	switch {
	case r.Tokens.Stolen(s.cred.verifier, generation, began):
		s.endStolen(ctx, now)
		s.state = anonymous
	case generation < r.Tokens.Generation && r.Tokens.Overlaps(s.cred.verifier, began):
		s.state = moved
		return
	default:
		s.unknownToken()
	}
	s.cred.found = false // SignOut must not end the session with this token
}

// unknownToken makes the visitor an unknown one. The first read of a request emits an event.
func (s *Session) unknownToken() {
	if s.state == unread && s.m.local {
		s.emitRefused("unknown", s.cred.id.String())
	}
	s.state = anonymous
}

// endStolen ends a session whose token was used after it had been changed for another long ago. Two
// parties have it, and nobody can tell which is the visitor, so the session ends for both. The
// request goes on as that of an unknown visitor.
func (s *Session) endStolen(ctx context.Context, now time.Time) {
	logger, handle := s.m.cfg.Logger, s.cred.id.String()
	limited, cancel := s.m.detached(ctx)
	defer cancel()
	ended, err := s.storeEnd(limited, s.cred.id, true)
	switch {
	case err != nil:
		logger.ErrorContext(ctx, "session: a stolen token was used, and the session could not be ended", "session", handle, "error", err)
	case !ended: // another request was faster, and has reported it
		s.unknownToken()
		return
	default:
		logger.WarnContext(ctx, "session: a stolen token was used; the session has ended", "session", handle)
	}
	s.emit(s.event(EventStolen, s.cred.id, now))
}

func (s *Session) cannotRead(err error) {
	s.state, s.readErr = failed, err
	s.outcome.err = err
}

// degrade serves the visitor as an unknown one whose changes are refused.
func (s *Session) degrade(ctx context.Context, err error) {
	s.state = degraded
	s.m.cfg.Logger.ErrorContext(ctx, "session: a session cannot be read; the visitor is served as an unknown one", "error", err)
}

// become makes r the session.
func (s *Session) become(r *driver.Record, now time.Time) {
	s.state, s.identity.named = live, r
	s.view.rebase(r, now)
	if s.handle.Load() == nil {
		s.setHandle()
	}
}

// setHandle makes the session's id the one that logs show.
func (s *Session) setHandle() {
	if s.handle.Load() == nil {
		s.firstID = s.cred.id // logs may read it from now on
		s.handle.Store(&s.firstID)
		return
	}
	id := s.cred.id
	s.handle.Store(&id)
}

// leave makes the session one that there is no more. What the request changed stays visible to it.
func (s *Session) leave(st state) {
	s.state, s.identity.principal = st, nil
	s.view.hide()
	s.response.withhold()
}
