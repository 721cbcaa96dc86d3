package session

import (
	"context"
	"log/slog"
)

// LogHandler returns a handler that adds "session", the handle, to records which are logged with the context of a request whose
// session is stored and was read. After [Session.SignOut] it is still the handle of the session that ended, until another takes its
// place, so that the line which tells of it can be found. The token is nowhere.
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
