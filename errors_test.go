package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
)

func TestStatus(t *testing.T) {
	for err, status := range map[error]int{
		session.ErrUnavailable:    503,
		session.ErrUnknownOutcome: 503,
		session.ErrEnded:          409,
		session.ErrNotSignedIn:    401,
		session.ErrNotFresh:       401,
		session.ErrAmbiguous:      400,
		session.ErrCrossOrigin:    403,
		session.ErrCSRF:           403,
		session.ErrTooLarge:       500,
		session.ErrInvalid:        500,
		session.ErrDecode:         500,
		session.ErrHeaderSent:     500,
		session.ErrNoManager:      500,
		errors.New("any"):         500,
	} {
		want(t, err.Error(), session.Status(err), status)
		want(t, err.Error()+", wrapped", session.Status(fmt.Errorf("handler: %w", err)), status)
	}
	if !errors.Is(session.ErrUnknownOutcome, session.ErrUnavailable) || errors.Is(session.ErrUnavailable, session.ErrUnknownOutcome) {
		t.Error("an unknown outcome is an ErrUnavailable, and not the other way round")
	}
}

// TestError: what a handler fails with, its changes dropped and the client told no cause.
func TestError(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	w := v.do(func(ses *session.Session) error { n.Add(ses, 1); return errors.New("dial redis-7.internal: no") })
	wantAnswer(t, w, 500)
	want(t, "n", v.count(), 1)
	if log := s.log.String(); strings.Count(log, "redis-7.internal") != 1 || !strings.Contains(log, "level=ERROR") {
		t.Errorf("log: %s", log)
	}
	w = v.do(func(ses *session.Session) error { // what was committed before stays
		n.Add(ses, 1)
		if err := ses.Commit(context.Background()); err != nil {
			return err
		}
		n.Add(ses, 10)
		return session.ErrNotSignedIn
	})
	wantAnswer(t, w, 401)
	want(t, "n", v.count(), 2)
	w = v.handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		w.Write([]byte("page"))
		return errors.New("too late for an answer")
	}))
	if w.Body.String() != "page" || !strings.Contains(s.log.String(), "too late for an answer") {
		t.Errorf("after the header: %q, log %s", w.Body, s.log)
	}
}

func TestErrorWithoutManager(t *testing.T) {
	w := httptest.NewRecorder()
	session.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
		t.Error("the handler ran")
		return nil
	}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	wantAnswer(t, w, 500)
}

// TestClientsFaultsAreNotLoggedAsErrors: an operator cannot mend them.
func TestClientsFaultsAreNotLoggedAsErrors(t *testing.T) {
	s := newSite(t, session.Config{})
	a, b := s.known(), s.known()
	if w, _ := s.send(http.Header{"Cookie": {a.cookie, b.cookie}}, nil); w.Code != 400 {
		t.Errorf("%d", w.Code)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	r.Header.Set("Cookie", a.cookie)
	s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error { return nil })).
		ServeHTTP(httptest.NewRecorder(), r)
	if log := s.log.String(); strings.Contains(log, "level=ERROR") || !strings.Contains(log, "level=INFO") || !strings.Contains(log, "level=DEBUG") {
		t.Errorf("log: %s", log)
	}
}
