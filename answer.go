package session

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
)

// Error answers a request that failed with err. It drops what the request changed and did not
// commit, logs err, sets Retry-After or WWW-Authenticate where they belong to the status, and calls
// Config.OnError. The default answers with the status of [Status] and one sentence that does not
// tell the client the cause. After the response header has left, Error only logs.
func Error(w http.ResponseWriter, r *http.Request, err error) {
	s, missing := sessionOf(r.Context())
	if missing != nil {
		slog.ErrorContext(r.Context(), "session: request failed",
			"error", err, "method", r.Method, "path", r.URL.Path)
		setErrorHeader(w.Header(), err)
		defaultOnError(w, r, err)
		return
	}
	switch sent, answered := s.abandon(err); {
	case answered: // and logged
	case sent:
		s.log(r.Context(), err)
	default:
		s.answer(w, r, err)
	}
}

// abandon drops what was not committed. It reports whether the response header has left, and
// whether the response answers with err already.
func (s *Session) abandon(err error) (sent, answered bool) {
	for d := s.opened(); d != nil; d = d.owned.before {
		d.discard()
	}
	s.lock()
	defer s.calls.Unlock()
	defer s.mu.Unlock()
	if s.outcome.phase == phaseAnswered {
		return true, errors.Is(err, s.outcome.err)
	}
	s.view.discard()
	s.outcome.forgive()
	return s.response.sent, false
}

func (s *Session) answer(w http.ResponseWriter, r *http.Request, err error) {
	s.log(r.Context(), err)
	setErrorHeader(w.Header(), err)
	if s.onError != nil {
		s.onError(w, r, err)
		return
	}
	s.m.cfg.OnError(w, r, err)
}

// setErrorHeader sets what belongs to the status of err: Retry-After or WWW-Authenticate. A change
// whose outcome is unknown must not be repeated without a look, so it has no Retry-After.
func setErrorHeader(h http.Header, err error) {
	switch Status(err) {
	case http.StatusServiceUnavailable:
		if !errors.Is(err, ErrUnknownOutcome) {
			h.Set("Retry-After", "1")
		}
	case http.StatusUnauthorized:
		challenge := `Bearer realm="session"`
		if missing := (*freshnessError)(nil); errors.As(err, &missing) {
			challenge = missing.challenge()
		}
		h.Set("WWW-Authenticate", challenge)
	}
}

// log logs what a request failed with. Errors that an operator can mend have level ERROR.
func (s *Session) log(ctx context.Context, err error) {
	level := slog.LevelError
	switch {
	case errors.Is(err, ErrNotSignedIn): // every page of members' has it, for each visitor
		level = slog.LevelDebug
	case Status(err) < 500:
		level = slog.LevelInfo
	}
	if ctx.Err() != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrDecode) && !errors.Is(err, ErrSealed) {
		level = slog.LevelDebug // most likely it failed because the client hung up
	}
	if !s.m.cfg.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.Int("status", Status(err)), slog.Any("error", err)}
	attrs = append(attrs, slog.String("method", s.request.Method), slog.String("path", s.request.URL.Path))
	if handle := s.unreadHandle(); handle != "" {
		attrs = append(attrs, slog.String("session", handle))
	}
	s.m.cfg.Logger.LogAttrs(ctx, level, "session: request failed", attrs...)
}

// unreadHandle returns the handle that the request's token names, if the session could not be read.
// LogHandler knows the others.
func (s *Session) unreadHandle() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle.Load() != nil || !s.cred.found {
		return ""
	}
	return s.cred.token.ID().String()
}

func defaultOnError(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, Message(err), Status(err))
}
