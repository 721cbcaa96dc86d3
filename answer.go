package session

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
)

// Error answers a request that failed with err. It drops what the request changed and did not commit,
// logs err, and calls Config.OnError. By default that answers with the status of [Status], Retry-After
// for 503, and one sentence that does not tell the client the cause. After the response header has
// left, Error only logs.
func Error(w http.ResponseWriter, r *http.Request, err error) {
	s, missing := sessionOf(r.Context())
	if missing != nil {
		slog.ErrorContext(r.Context(), "session: request failed", "error", err)
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

// abandon drops what was not committed. It reports whether the response header has left, and whether
// the response answers with err already.
func (s *Session) abandon(err error) (sent, answered bool) {
	s.lock()
	defer s.calls.Unlock()
	defer s.mu.Unlock()
	if s.outcome.final {
		return true, errors.Is(err, s.outcome.err)
	}
	s.view.discard()
	s.outcome.forgive()
	return s.response.sent, false
}

func (s *Session) answer(w http.ResponseWriter, r *http.Request, err error) {
	s.log(r.Context(), err)
	s.m.cfg.OnError(w, r, err)
}

// log logs what a request failed with. Errors that an operator can mend have level ERROR.
func (s *Session) log(ctx context.Context, err error) {
	level := slog.LevelError
	if Status(err) < 500 {
		level = slog.LevelInfo
	}
	if ctx.Err() != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrDecode) && !errors.Is(err, ErrSealed) {
		level = slog.LevelDebug // most likely it failed because the client hung up
	}
	s.m.cfg.Logger.Log(ctx, level, "session: request failed", "status", Status(err), "error", err)
}

func defaultOnError(w http.ResponseWriter, _ *http.Request, err error) {
	status, text := answerTo(err)
	switch status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		challenge := `Bearer realm="session"`
		if missing := (*freshnessError)(nil); errors.As(err, &missing) {
			challenge = missing.challenge()
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	http.Error(w, text, status)
}
