package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unsafe"

	"github.com/coatcheck-go/session"
)

// mustLoad returns the context of a request with this cookie, as a server that is not net/http has
// it.
func mustLoad(t *testing.T, m *session.Manager, cookie string) context.Context {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	r.Header.Set("Cookie", cookie)
	ctx, err := m.Load(r)
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// TestLoadAndCommitWorkWithoutNetHTTP: Load and Commit are the middleware in two halves.
func TestLoadAndCommitWorkWithoutNetHTTP(t *testing.T) {
	s := newSite(t, session.Config{})
	ctx := mustLoad(t, s.m, "")
	if h, err := s.m.Commit(ctx); h != nil || err != nil {
		t.Errorf("not used: %v, %v", h, err)
	}
	ctx = mustLoad(t, s.m, "")
	ses, err := session.From(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n.Add(ses, 1)
	h, err := s.m.Commit(ctx)
	if err != nil || len(h["Set-Cookie"]) != 1 || h.Get("Vary") != "Cookie" || h.Get("Cache-Control") != "no-store" {
		t.Fatalf("%v, %v", h, err)
	}
	cookie, _, _ := strings.Cut(h.Get("Set-Cookie"), ";")
	s.store.fail("apply", errDown)
	ctx = mustLoad(t, s.m, cookie)
	ses, _ = session.From(ctx)
	n.Add(ses, 1)
	if h, err := s.m.Commit(ctx); !errors.Is(err, session.ErrUnavailable) || h["Set-Cookie"] != nil {
		t.Errorf("with the store down: %v, %v", h, err)
	}
	if _, err := s.m.Commit(t.Context()); !errors.Is(err, session.ErrNoManager) {
		t.Errorf("without Load: %v", err)
	}
	if _, err := session.From(t.Context()); !errors.Is(err, session.ErrNoManager) {
		t.Errorf("From without Load: %v", err)
	}
}

// TestLoadRefusesWhatTheMiddlewareRefuses: a server that is not net/http gets the checks of the
// middleware, so that it cannot leave them out.
func TestLoadRefusesWhatTheMiddlewareRefuses(t *testing.T) {
	s := newSite(t, session.Config{CSRF: true})
	v := s.known()
	token := v.mustCSRFToken(t)
	form := func(token string) string { return session.CSRFField + "=" + token }
	for _, tt := range []struct {
		name, method, site, body string
		want                     error
	}{
		{"a page of another site", "GET", "cross-site", "", nil},
		{"a post of another site", "POST", "cross-site", form(token), session.ErrCrossOrigin},
		{"a post without a token", "POST", "same-origin", "", session.ErrCSRF},
		{"a post with a token", "POST", "same-origin", form(token), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), tt.method, "/", strings.NewReader(tt.body))
			r.Header.Set("Cookie", v.cookie)
			r.Header.Set("Sec-Fetch-Site", tt.site)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.URL = nil // a description may leave it out
			ctx, err := s.m.Load(r)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("Load: %v, want %v", err, tt.want)
			}
			if body, _ := io.ReadAll(r.Body); string(body) != tt.body {
				t.Errorf("the handler reads the body %q", body)
			}
			if ses, err := session.From(ctx); err == nil {
				n.Add(ses, 1) // also if the server ignores the error
			}
			before := v.count()
			_, err = s.m.Commit(ctx)
			if !errors.Is(err, tt.want) {
				t.Errorf("Commit: %v, want %v", err, tt.want)
			}
			if changed := v.count() != before; changed != (tt.want == nil) {
				t.Errorf("changed: %v", changed)
			}
		})
	}
}

// TestDiscardDropsChangesAndMistakes: what comes after Discard is committed.
func TestDiscardDropsChangesAndMistakes(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	w := v.do(func(ses *session.Session) error {
		n.Add(ses, 100)
		session.Counter("a b").Add(ses, 1)
		ses.Discard()
		if got := n.Get(ses); got != 1 {
			t.Errorf("n reads %d after Discard", got)
		}
		theme.Set(ses, "dark")
		return nil
	})
	mustEqual(t, "status", w.Code, 200)
	mustEqual(t, "n", v.count(), 1)
	v.mustRead("theme", "dark", "")
}

// TestServeAnswersByTheFramework: what an adapter's onError writes is the response, and what the
// handler writes is dropped.
func TestServeAnswersByTheFramework(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(s *site, r *http.Request)
		want    error
	}{
		{"the commit fails", func(s *site, _ *http.Request) { s.store.fail("apply", errDown) }, session.ErrUnavailable},
		{"cross-origin", func(_ *site, r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, session.ErrCrossOrigin},
		{"Error", func(_ *site, r *http.Request) { r.URL.Path = "/error" }, session.ErrNotSignedIn},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, session.Config{OnError: func(http.ResponseWriter, *http.Request, error) { t.Error("OnError is called") }})
			v, w := s.known(), httptest.NewRecorder()
			r := httptest.NewRequest("POST", "/", nil)
			r.Header.Set("Cookie", v.cookie)
			tt.prepare(s, r)
			s.m.Serve(w, r, func(w http.ResponseWriter, r *http.Request) {
				ses, err := session.From(r.Context())
				if err != nil {
					t.Error(err)
					return
				}
				n.Add(ses, 1)
				if r.URL.Path == "/error" {
					session.Error(w, r, session.ErrNotSignedIn)
					return
				}
				if _, err := io.WriteString(w, "ok"); !errors.Is(err, tt.want) {
					t.Errorf("Write: %v, want %v", err, tt.want)
				}
			}, func(w http.ResponseWriter, _ *http.Request, err error) {
				if !errors.Is(err, tt.want) {
					t.Errorf("onError gets %v, want %v", err, tt.want)
				}
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "by the framework")
			})
			mustEqual(t, "status", w.Code, http.StatusTeapot)
			mustEqual(t, "body", w.Body.String(), "by the framework")
			s.store.up()
			mustEqual(t, "n", v.count(), 1)
		})
	}
}

// statusError is an error of an application or a framework that knows its status.
type statusError int

func (e statusError) Error() string   { return fmt.Sprintf("the cause of %d", int(e)) }
func (e statusError) StatusCode() int { return int(e) }

// TestErrorKeepsItsStatus: an error with a method StatusCode keeps its status, and never shows the
// client its cause.
func TestErrorKeepsItsStatus(t *testing.T) {
	for err, want := range map[error]string{
		statusError(404): "404 Not Found.",
		fmt.Errorf("wrapped: %w", statusError(422)): "422 Unprocessable Entity.",
		statusError(499): "499 Something went wrong. The error has been logged.",
		statusError(502): "502 Something went wrong. The error has been logged.",
		statusError(200): "500 Something went wrong. The error has been logged.",
		statusError(700): "500 Something went wrong. The error has been logged.",
		errors.Join(statusError(404), session.ErrNotSignedIn):    "401 Please sign in.",
		fmt.Errorf("%w: %w", statusError(404), session.ErrEnded): "409 Your session has changed. Please reload and try again.",
	} {
		s := newSite(t, session.Config{})
		w := s.known().do(func(*session.Session) error { return err })
		mustEqual(t, err.Error(), fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String())), want)
	}
}

// TestRecoveryInsideCommitsNothing: a recovery middleware inside the Manager answers for a handler
// that panicked. What a handler changes and answers with an error by itself is committed.
func TestRecoveryInsideCommitsNothing(t *testing.T) {
	recovery := func(answer func(w http.ResponseWriter)) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					if recover() != nil {
						answer(w)
					}
				}()
				next.ServeHTTP(w, r)
			})
		}
	}
	for name, tt := range map[string]struct {
		end  func(w http.ResponseWriter)
		want int64
	}{
		"a panic":                       {func(http.ResponseWriter) { panic("on purpose") }, 1},
		"a panic of the runtime":        {func(http.ResponseWriter) { var p *int; *p = 1 }, 1},
		"an error":                      {func(w http.ResponseWriter) { w.WriteHeader(500) }, 101},
		"a panic that is already over":  {func(w http.ResponseWriter) { recovered(); w.WriteHeader(500) }, 101},
		"an error deferred by a return": {func(w http.ResponseWriter) { defer w.WriteHeader(500) }, 101},
	} {
		s := newSite(t, session.Config{})
		v, w := s.known(), httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Cookie", v.cookie)
		s.m.Handler(recovery(func(w http.ResponseWriter) { w.WriteHeader(500) })(
			session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
				n.Add(ses, 100)
				tt.end(w)
				return nil
			}))).ServeHTTP(w, r)
		mustEqual(t, name+": status", w.Code, 500)
		mustEqual(t, name+": n", v.count(), tt.want)
	}
}

func recovered() {
	defer func() { recover() }()
	panic("on purpose")
}

// TestFailIsCommitForAFailure: it stores nothing, and the response brings what was committed before
// and what belongs to the error.
func TestFailIsCommitForAFailure(t *testing.T) {
	s := newSite(t, session.Config{})
	ctx := mustLoad(t, s.m, "")
	ses, err := session.From(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n.Add(ses, 1)
	if err := ses.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	n.Add(ses, 100)
	h := s.m.Fail(ctx, session.ErrNotSignedIn)
	if len(h["Set-Cookie"]) != 1 || h.Get("WWW-Authenticate") == "" {
		t.Fatalf("the header is %v", h)
	}
	cookie, _, _ := strings.Cut(h.Get("Set-Cookie"), ";")
	if ses, err = session.From(mustLoad(t, s.m, cookie)); err != nil || n.Get(ses) != 1 {
		t.Errorf("n is %d, %v", n.Get(ses), err)
	}
	s.store.fail("apply", errDown)
	ctx = mustLoad(t, s.m, cookie)
	ses, _ = session.From(ctx)
	n.Add(ses, 100)
	if h, err := s.m.Commit(ctx); !errors.Is(err, session.ErrUnavailable) || h.Get("Retry-After") != "1" {
		t.Errorf("Commit with the store down: %v, %v", h, err)
	}
	if h := s.m.Fail(mustLoad(t, s.m, ""), nil); h != nil {
		t.Errorf("Fail of a request that does not use its session: %v", h)
	}
	if h := s.m.Fail(t.Context(), errDown); h != nil {
		t.Errorf("Fail without a session: %v", h)
	}
}

// TestDiscardOfTheManagerReadsNothing: an adapter that reports an error of a handler that does not
// use its session adds nothing to the response and asks no store.
func TestDiscardOfTheManagerReadsNothing(t *testing.T) {
	s := newSite(t, session.Config{})
	ctx := mustLoad(t, s.m, s.known().cookie)
	s.store.fail("load", errDown)
	s.m.Discard(ctx)
	s.m.Discard(t.Context())
	if h, err := s.m.Commit(ctx); h != nil || err != nil {
		t.Errorf("Commit: %v, %v", h, err)
	}
	s.store.up()
	ctx = mustLoad(t, s.m, "")
	ses, err := session.From(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n.Add(ses, 1)
	s.m.Discard(ctx)
	if h, err := s.m.Commit(ctx); h["Set-Cookie"] != nil || err != nil {
		t.Errorf("Commit: %v, %v", h, err)
	}
}

// TestLoadOfANestedMiddlewareKeepsTheSession: an adapter recognizes it by the context.
func TestLoadOfANestedMiddlewareKeepsTheSession(t *testing.T) {
	s, other := newSite(t, session.Config{}), newSite(t, session.Config{})
	outer := mustLoad(t, s.m, "")
	r := httptest.NewRequestWithContext(outer, "POST", "/", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Cookie", "__Host-session=x")
	if ctx, err := s.m.Load(r); err != nil || ctx != outer {
		t.Errorf("Load of the same Manager: %v, %v", ctx, err)
	}
	if _, err := other.m.Load(r); !errors.Is(err, session.ErrCrossOrigin) {
		t.Errorf("Load of another Manager: %v", err)
	}
}

// TestLoginKeepsNoTextOfTheCaller: under fasthttp, the texts of a request are overwritten by the
// next one.
func TestLoginKeepsNoTextOfTheCaller(t *testing.T) {
	s := newSite(t, session.Config{})
	ctx := mustLoad(t, s.m, "")
	ses, err := session.From(ctx)
	if err != nil {
		t.Fatal(err)
	}
	buffer := []byte("ada")
	text := func() string { return unsafe.String(&buffer[0], len(buffer)) }
	in := session.Login{User: text(), Methods: []string{text()}, Device: text(), UserAgent: text(), Address: text()}
	if err := ses.SignIn(ctx, in); err != nil {
		t.Fatal(err)
	}
	copy(buffer, "eve")
	for info, err := range s.m.Sessions(t.Context(), "ada") {
		mustEqual(t, "of ada", fmt.Sprint(info.User, info.Methods, info.Device, info.UserAgent, info.Address, err),
			"ada[ada]adaadaada<nil>")
		return
	}
	t.Error("ada has no session")
}
