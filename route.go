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
	s.route(ctx, &rt)
	if !rt.SignedIn && rt.MaxAuthAge == 0 && len(rt.AuthMethods) == 0 && rt.MinLevel == 0 {
		return nil
	}
	if s, err = From(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != live || s.record == nil || s.record.Principal == nil {
		return ErrNotSignedIn
	}
	return rt.isMetBy(s.record.Principal, s.now.Add(time.Since(s.readAt)))
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

// route sets how the session is read, and reads it again if it was read in another way.
func (s *Session) route(ctx context.Context, rt *Route) {
	s.mu.Lock()
	defer s.unlock(ctx)
	again := (s.state == failed || s.state == degraded || s.readOnly) && rt.Down != s.down || s.state == live && rt.Fresh && !s.fresh
	s.fresh, s.down, s.passive = s.fresh || rt.Fresh, rt.Down, s.passive || rt.Passive
	unreadable := s.state == failed && errors.Is(s.err, s.readErr)
	if again && !s.refused && (s.err == nil || unreadable) { // a change that was refused stays an error
		s.err = nil
		s.readAgain(ctx)
		s.redo()
	}
}

// redo makes the changes that are not committed yet on the view that was read again. What it leaves out the commit will refuse.
func (s *Session) redo() {
	if s.state != live || len(s.ops) == 0 {
		return
	}
	s.edit()
	for i := range s.ops {
		_, _ = s.draft.Do(&s.ops[i])
	}
}
