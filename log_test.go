package session_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// TestLogHandler: a line has the handle of the session that is stored, or of the one that was until another took its place.
func TestLogHandler(t *testing.T) {
	const n session.Counter = "n"
	var out bytes.Buffer
	log := slog.New(session.LogHandler(slog.NewTextHandler(&out, nil)))
	sessions, err := session.New(memstore.New(), session.Config{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	var want []string // at the end of each line
	handler := sessions.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		ctx := r.Context()
		line := func(handle string) {
			log.InfoContext(ctx, "line")
			if handle != "" {
				handle = " session=" + handle
			}
			want = append(want, "msg=line"+handle)
		}
		line("")
		n.Add(s, 1)
		line("")
		if err := s.Commit(ctx); err != nil {
			return err
		}
		first := s.Info().Handle
		line(first)
		if err := s.SignOut(ctx); err != nil {
			return err
		}
		line(first)
		n.Add(s, 1)
		if err := s.Commit(ctx); err != nil {
			return err
		}
		if s.Info().Handle == first {
			t.Error("the session after the sign-out has the handle of the one before")
		}
		line(s.Info().Handle)
		return nil
	}))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, out.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out.String())
	}
	for i, line := range lines {
		if !strings.HasSuffix(line, want[i]) {
			t.Errorf("line %d: %s\nwant %q at its end", i, line, want[i])
		}
	}
}
