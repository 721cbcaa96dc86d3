package session

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Route is what one route requires of its sessions. Its Handler goes inside [Manager.Handler]. The
// zero Route requires nothing. (ASVS 7.5.1, 7.5.3; NIST SP 800-63B-4, 2.2.3)
//
//	recently := session.Route{SignedIn: true, MaxAuthAge: 10 * time.Minute}
//	mux.Handle("POST /password", recently.Handler(session.HandlerFunc(changePassword)))
type Route struct {
	// SignedIn requires that a user is signed in. MaxAuthAge, AuthMethods and MinLevel imply it.
	SignedIn bool

	// MaxAuthAge is how long ago the user may have authenticated; see Login.Authenticated. Default:
	// 0, any time.
	MaxAuthAge time.Duration

	// AuthMethods are methods that the user must have authenticated with, all of them; see
	// Login.Methods. Default: none.
	AuthMethods []string

	// MinLevel is the lowest assurance level that is accepted; see Login.Level. Default: 0, any
	// level.
	MinLevel int

	// Fresh reads the session from the store, and not from this process's copy. Set it if the
	// response must reflect a change that another node has just made. Default: false.
	Fresh bool

	// Down says what the route does when the session cannot be read. Default: DownRefuse.
	Down Down

	// Passive keeps a request from extending the idle timeout. Set it for a page that polls for
	// news or for the time left. A write still extends the idle timeout. Default: false.
	Passive bool
}

// Down says what a route does when the session cannot be read because the store is down. Whatever
// Down says, a write fails with [ErrUnavailable] and no cookie is set. Only [Session.SignOut]
// deletes the cookie.
type Down int

const (
	// DownRefuse makes [From] return ErrUnavailable.
	DownRefuse Down = iota

	// DownReadOnly serves this process's copy of the session, if the store keeps copies and the
	// copy is not too old. Otherwise it is DownRefuse.
	DownReadOnly

	// DownAnonymous serves the visitor as an unknown one. [Session.Degraded] then returns true.
	// DownAnonymous also applies to a session that fails with [ErrSealed].
	DownAnonymous
)

// Check returns nil if the request meets the route. A handler can call it for a part of what it
// does. A stream can call it again after [Session.Reload].
//
// If several Routes apply to a request, the Down of the last one applies, which is the innermost.
// Fresh and Passive apply if any Route sets them.
//
// Errors: [ErrNotSignedIn], [ErrNotFresh], and those of [From]. If the user signs in again as the
// route requires, the session keeps its fields and meets the route. Config.OnError can send the
// user to the sign-in page; the step-up example shows how.
//
// The default OnError answers both errors with status 401. For [ErrNotFresh] the response also
// carries the challenge of RFC 9470, which tells clients with a bearer token what is missing:
// "max_age" is MaxAuthAge in seconds, "acr_values" is MinLevel.
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
	if !s.view.signedIn() {
		return ErrNotSignedIn
	}
	return rt.isMetBy(s.identity.principal, s.view.storeTime())
}

// Handler returns a handler that calls next if [Route.Check] returns nil, and responds with [Error]
// otherwise.
func (rt Route) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := rt.Check(r.Context()); err != nil {
			Error(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// routeMode is what the routes of a request require of how the session is read and used.
type routeMode struct {
	fresh   bool // read the store, not a copy
	passive bool // the request does not extend the idle timeout
	down    Down
}

// applyRoute adds a route to the request's mode. If the session was already read in another way,
// applyRoute reads it again.
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
	// The error of a change stays.
	if again && s.outcome.phase == phaseOpen && (s.outcome.err == nil || unreadable) {
		s.outcome.err = nil
		s.readAgain(ctx)
	}
}
