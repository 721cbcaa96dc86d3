package session

import (
	"context"
	"log/slog"
)

// LogHandler returns a handler that adds the session's handle to log records, as the attribute
// "session". It does so for records that are logged with a request's context, after the session was
// read or stored. After [Session.SignOut] it adds the handle of the ended session until the request
// stores a new one, so that log lines about the sign-out can be found. It never logs the token.
func LogHandler(h slog.Handler) slog.Handler { return logHandler{h} }

// HandleFrom returns the handle of the session of a request's context, for logs and traces. It is
// that of [LogHandler], and empty if there is none. HandleFrom does not read the session and never
// waits.
func HandleFrom(ctx context.Context) string {
	s, err := sessionOf(ctx)
	if err != nil {
		return ""
	}
	return handleOf(s)
}

func handleOf(s *Session) string {
	if id := s.handle.Load(); id != nil {
		return id.String()
	}
	return ""
}

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if ctx != nil {
		if s, err := sessionOf(ctx); err == nil {
			if handle := handleOf(s); handle != "" {
				r = r.Clone()
				r.AddAttrs(slog.String("session", handle))
			}
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h logHandler) WithAttrs(a []slog.Attr) slog.Handler { return logHandler{h.Handler.WithAttrs(a)} }
func (h logHandler) WithGroup(name string) slog.Handler   { return logHandler{h.Handler.WithGroup(name)} }
