package session

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Route is what one route asks of its sessions, beyond the Manager's Config. Its Handler goes inside [Manager.Handler]. The zero
// Route asks nothing. (ASVS 7.5.1, 7.5.3; NIST SP 800-63B-4, 2.2.3)
//
//	recently := session.Route{User: true, MaxAge: 10 * time.Minute}
//	mux.Handle("POST /password", recently.Handler(session.HandlerFunc(changePassword)))
type Route struct {
	SignedIn    bool          // somebody is signed in
	MaxAuthAge  time.Duration // and authenticated no longer ago than this; 0: whenever
	AuthMethods []string      // with all of these methods
	MinLevel    int           // and at least at this assurance level
	Fresh       bool          // read the store, not this process's copy: the answer must know of what happened a moment ago elsewhere
	Down        Down          // when the session cannot be read
	Passive     bool          // a request is no use of the session: a page that asks for news, or for the time left, does not keep it alive. Writes do
}

// Down says what a route does when the store is down. Its cookie is then cleared by [Session.SignOut] alone, none is set, and a write always
// fails with [ErrUnavailable].
type Down int

const (
	DownRefuse    Down = iota // [From] returns ErrUnavailable
	DownReadOnly              // serve this process's copy within its bound, if the store keeps copies and has one; else refuse
	DownAnonymous             // serve as to an unknown visitor, in place of [ErrSealed], too; [Session.Degraded] reports it
)

// Check decides whether a request may go on, as a question: a handler may ask it of a part of what it does, and a stream again after
// [Session.Reload]. Of the Routes that a request meets the last one's Down holds; Fresh and Passive stay once one has them. Errors:
// [ErrNotSignedIn], [ErrNotFresh], and those of [From].
//
// Signing in again as the route asks meets it, and keeps the session's fields. Config.OnError may lead people there: see the example
// of a step-up. The default answers 401, and to [ErrNotFresh] with the challenge of RFC 9470, by which clients with a bearer token
// learn what is missing: "max_age" is MaxAge in seconds, "acr_values" is MinLevel.
func (rt Route) Check(ctx context.Context) error {
	s, err := sessionOf(ctx)
	if err != nil {
		return err
	}
	s.applyRoute(ctx, &rt)
	if !rt.SignedIn && rt.MaxAuthAge == 0 && len(rt.AuthMethods) == 0 && rt.MinLevel == 0 {
		return nil
	}
	if s, err = From(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.view.record
	if r == nil || r.Principal == nil {
		return ErrNotSignedIn
	}
	return rt.isMetBy(r.Principal, s.view.storeTime())
}

// Handler calls next if [Route.Check] returns nil, and answers with [Error] otherwise.
func (rt Route) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := rt.Check(r.Context()); err != nil {
			Error(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// routeMode is what the routes of a request ask of reading and using the session.
type routeMode struct {
	fresh   bool // a cached copy will not do
	passive bool // the request does not extend the idle timeout
	down    Down
}

// applyRoute adds a route's demands. If the session was read in another way, it reads it again.
func (s *Session) applyRoute(ctx context.Context, rt *Route) {
	s.lock()
	defer s.unlock(ctx)
	before := s.mode
	s.mode = routeMode{fresh: before.fresh || rt.Fresh, passive: before.passive || rt.Passive, down: rt.Down}
	again := false
	switch s.state {
	case failed, degraded, readOnly:
		again = rt.Down != before.down
	case live:
		again = rt.Fresh && !before.fresh
	}
	unreadable := s.state == failed && errors.Is(s.outcome.err, s.readErr)
	if again && !s.outcome.final && (s.outcome.err == nil || unreadable) { // a change that was refused stays an error
		s.outcome.err = nil
		s.readAgain(ctx)
	}
}
