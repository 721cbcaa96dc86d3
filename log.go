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

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if ctx != nil {
		if s, err := sessionOf(ctx); err == nil {
			if id := s.handle.Load(); id != nil {
				r = r.Clone()
				r.AddAttrs(slog.String("session", id.String()))
			}
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h logHandler) WithAttrs(a []slog.Attr) slog.Handler { return logHandler{h.Handler.WithAttrs(a)} }
func (h logHandler) WithGroup(name string) slog.Handler   { return logHandler{h.Handler.WithGroup(name)} }
