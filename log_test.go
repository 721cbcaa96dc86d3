package session_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
)

// TestLogHandler: the handle on every line that is logged from a request's context, and never the token.
func TestLogHandler(t *testing.T) {
	out := &logged{}
	log := slog.New(session.LogHandler(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo})))
	s := newSite(t, session.Config{Logger: log})
	var handle string
	line := func(ctx context.Context, l *slog.Logger) string {
		before := len(out.String())
		l.InfoContext(ctx, "line")
		return out.String()[before:]
	}
	v := s.visitor()
	v.inRequest(func(ctx context.Context, ses *session.Session) {
		if got := line(ctx, log); strings.Contains(got, "session=") {
			t.Errorf("not stored: %s", got)
		}
		n.Add(ses, 1)
		if err := ses.Commit(ctx); err != nil {
			t.Error(err)
		}
		handle = ses.Info().Handle
		if got := line(ctx, log); len(handle) != 27 || strings.Count(got, "session="+handle) != 1 {
			t.Errorf("stored as %q: %s", handle, got)
		}
	})
	v.inRequest(func(ctx context.Context, ses *session.Session) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if got := line(ctx, log.With("a", 1)); !strings.Contains(got, "session="+handle) || !strings.Contains(got, "a=1") {
			t.Errorf("With: %s", got)
		}
		if got := line(ctx, log.WithGroup("g")); !strings.Contains(got, "g.session="+handle) {
			t.Errorf("WithGroup: %s", got)
		}
		if err := ses.SignOut(ctx); err != nil {
			t.Error(err)
		}
		if got := line(ctx, log); !strings.Contains(got, "session="+handle) { // the line that tells of the sign-out has it
			t.Errorf("signed out: %s", got)
		}
	})
	v.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := line(r.Context(), log); strings.Contains(got, "session=") {
			t.Errorf("not read: %s", got)
		}
	}))
	if got := line(context.Background(), log); strings.Contains(got, "session=") {
		t.Errorf("no request: %s", got)
	}
	if log.Enabled(context.Background(), slog.LevelDebug) {
		t.Error("the level is lost")
	}
}

// TestNoTokenInTheLog, whatever goes wrong.
func TestNoTokenInTheLog(t *testing.T) {
	s := newSite(t, session.Config{Bearer: true})
	v := s.known()
	_, token, _ := strings.Cut(v.cookie, "=")
	for _, call := range []string{"load", "apply", "end"} {
		s.store.fail(call, errDown)
		v.also().do(func(ses *session.Session) error { n.Add(ses, 1); return renew(ses) })
		v.also().do(signOut)
	}
	s.store.up()
	s.send(http.Header{"Cookie": {v.cookie}, "Authorization": {"Bearer " + flip(token, 9)}}, nil)
	v.header["Sec-Fetch-Site"] = "cross-site"
	v.request("POST", s.m.Handler(http.NotFoundHandler()))
	log := s.log.String()
	if !strings.Contains(log, "status=400") || !strings.Contains(log, "status=403") || !strings.Contains(log, "status=503") {
		t.Errorf("log: %s", log)
	}
	for i := 0; i+12 <= len(token); i += 4 {
		if part := token[i : i+12]; strings.Contains(log, part) {
			t.Errorf("%q of the token is in the log:\n%s", part, log)
		}
	}
}
