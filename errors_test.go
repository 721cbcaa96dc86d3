package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// TestStatusOfErrors: Status maps each error, also a wrapped one.
func TestStatusOfErrors(t *testing.T) {
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
		mustEqual(t, err.Error(), session.Status(err), status)
		mustEqual(t, err.Error()+", wrapped", session.Status(fmt.Errorf("handler: %w", err)), status)
	}
	if !errors.Is(session.ErrUnknownOutcome, session.ErrUnavailable) ||
		errors.Is(session.ErrUnavailable, session.ErrUnknownOutcome) {
		t.Error("ErrUnknownOutcome must match ErrUnavailable, and not the reverse")
	}
}

// TestHandlerErrorDropsChangesAndHidesTheCause: what the handler committed before its error stays.
func TestHandlerErrorDropsChangesAndHidesTheCause(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	w := v.do(func(ses *session.Session) error { n.Add(ses, 1); return errors.New("dial redis-7.internal: no") })
	mustAnswer(t, w, 500)
	mustEqual(t, "n", v.count(), 1)
	if log := s.log.String(); strings.Count(log, "redis-7.internal") != 1 || !strings.Contains(log, "level=ERROR") {
		t.Errorf("log: %s", log)
	}
	w = v.do(func(ses *session.Session) error { // committed before the error
		n.Add(ses, 1)
		if err := ses.Commit(context.Background()); err != nil {
			return err
		}
		n.Add(ses, 10)
		return session.ErrNotSignedIn
	})
	mustAnswer(t, w, 401)
	mustEqual(t, "n", v.count(), 2)
	w = v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		w.Write([]byte("page"))
		return errors.New("too late for an answer")
	})
	if w.Body.String() != "page" || !strings.Contains(s.log.String(), "too late for an answer") {
		t.Errorf("after the header: %q, log %s", w.Body, s.log)
	}
}

// TestHandlerFuncFailsWithoutAManager: the function is not called.
func TestHandlerFuncFailsWithoutAManager(t *testing.T) {
	w := httptest.NewRecorder()
	session.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
		t.Error("the handler ran")
		return nil
	}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	mustAnswer(t, w, 500)
}

// TestOnErrorWritesTheErrorResponse: OnError is called once for each failed request and may send
// any status.
func TestOnErrorWritesTheErrorResponse(t *testing.T) {
	var asked []error
	s := newSite(t, session.Config{OnError: func(w http.ResponseWriter, r *http.Request, err error) {
		asked = append(asked, err)
		if ses, err := session.From(r.Context()); ses == nil && err == nil {
			t.Error("From returns neither a session nor an error")
		}
		http.Redirect(w, r, "/oops", http.StatusFound) // not an error status
	}})
	v := s.known()
	s.store.fail("apply", errDown)
	for name, h := range map[string]session.HandlerFunc{
		"ignored by the handler": bodyHandler(increment),
		"returned by the handler": func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			return ses.Commit(r.Context())
		},
		"nothing written": func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			return nil
		},
	} {
		asked = nil
		w := v.handle(h)
		if w.Code != http.StatusFound || w.Header().Get("Location") != "/oops" ||
			strings.Contains(w.Body.String(), "ok") {
			t.Errorf("%s: %d %v %q", name, w.Code, w.Header(), w.Body)
		}
		if len(asked) != 1 || !errors.Is(asked[0], session.ErrUnavailable) {
			t.Errorf("%s: OnError got %v", name, asked)
		}
	}
	s.store.down()
	asked = nil
	if w := v.do(func(*session.Session) error { return nil }); w.Code != http.StatusFound || len(asked) != 1 {
		t.Errorf("reading: %d, OnError got %v", w.Code, asked)
	}
}

// TestHandlerMayAnswerAReportedError: a handler that got the error may answer it with an error
// status. Any other response is replaced.
func TestHandlerMayAnswerAReportedError(t *testing.T) {
	for _, tt := range []struct {
		status, want int
		body         string
	}{{507, 507, "mine"}, {400, 400, "mine"}, {200, 503, ""}, {302, 503, ""}} {
		s := newSite(t, session.Config{})
		v := s.known()
		s.store.fail("apply", errDown)
		w := v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			if ses.Commit(r.Context()) == nil {
				t.Error("Commit with the store down: nil")
			}
			w.WriteHeader(tt.status)
			io.WriteString(w, "mine")
			return nil
		})
		if w.Code != tt.want || tt.body != "" && w.Body.String() != tt.body ||
			tt.body == "" && strings.Contains(w.Body.String(), "mine") {
			t.Errorf("status %d: got %d %q, want %d", tt.status, w.Code, w.Body, tt.want)
		}
	}
	t.Run("not reported to the handler", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		s.store.fail("apply", errDown)
		w := v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			http.Error(w, "mine", 404)
			return nil
		})
		mustAnswer(t, w, 503)
	})
}

// TestStoreDownSignsNobodyOut: the request gets an error, and no cookie is set or deleted.
func TestStoreDownSignsNobodyOut(t *testing.T) {
	for name, f := range map[string]func(ses *session.Session) error{
		"read":  readCount,
		"write": increment,
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		s.store.down()
		w := v.do(f)
		if mustAnswer(t, w, 503); len(cookies(w)) != 0 {
			t.Errorf("%s: Set-Cookie %q", name, cookies(w))
		}
		if w := s.visitor().do(f); name == "read" && w.Code != 200 || name == "write" && w.Code != 503 ||
			len(cookies(w)) != 0 {
			t.Errorf("%s by an unknown visitor: %d, Set-Cookie %q", name, w.Code, cookies(w))
		}
		s.store.up()
		if v.count() != 1 {
			t.Errorf("%s: the session is lost", name)
		}
	}
}

// TestIgnoredReadErrorStillAnswers503: a handler that ignores the error of From must not send a
// page for an anonymous visitor. Another library then overwrote the session.
func TestIgnoredReadErrorStillAnswers503(t *testing.T) {
	for name, write := range map[string]func(w http.ResponseWriter){
		"writes":         func(w http.ResponseWriter) { io.WriteString(w, "for a stranger") },
		"writes header":  func(w http.ResponseWriter) { w.WriteHeader(200) },
		"writes nothing": func(w http.ResponseWriter) {},
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		cookie := v.cookie
		s.store.down()
		w := v.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ses, err := session.From(r.Context()); ses != nil || !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("From: %v, %v", ses, err)
			}
			write(w)
		}))
		mustAnswer(t, w, 503)
		if len(cookies(w)) != 0 || v.cookie != cookie || strings.Contains(w.Body.String(), "stranger") {
			t.Errorf("%s: %q, Set-Cookie %q", name, w.Body, cookies(w))
		}
		s.store.up()
		if v.count() != 1 {
			t.Errorf("%s: the session is lost", name)
		}
	}
}

// TestStoreErrorIsNotAnEmptySessionThatOverwritesTheRealOne: a defect of another session library.
func TestStoreErrorIsNotAnEmptySessionThatOverwritesTheRealOne(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.store.down()
		ses, err := session.From(r.Context())
		if ses != nil || !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%v, %v", ses, err)
		}
		s.store.up()
	}))
	mustEqual(t, "n", v.count(), 1)
}

// TestLogNamesTheRequest: a change that is lost after the header, and a handler outside of a
// Manager, are logged with the method and the path.
func TestLogNamesTheRequest(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		w.Write([]byte("page"))
		s.store.down()
		n.Add(ses, 1)
		return nil
	})
	if log := s.log.String(); !strings.Contains(log, "were lost") || !strings.Contains(log, "method=GET path=/") {
		t.Errorf("log: %s", log)
	}

	before := slog.Default()
	defer slog.SetDefault(before)
	outside := &logBuffer{}
	slog.SetDefault(slog.New(slog.NewTextHandler(outside, nil)))
	h := session.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error { return nil })
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "POST", "/orders", nil))
	if log := outside.String(); !strings.Contains(log, "Manager.Handler") ||
		!strings.Contains(log, "method=POST path=/orders") {
		t.Errorf("log outside of a Manager: %s", log)
	}
}

// TestClientErrorsAreNotLoggedAsErrors: an operator cannot fix them.
func TestClientErrorsAreNotLoggedAsErrors(t *testing.T) {
	s := newSite(t, session.Config{})
	a, b := s.known(), s.known()
	if w, _ := s.send(http.Header{"Cookie": {a.cookie, b.cookie}}, nil); w.Code != 400 {
		t.Errorf("%d", w.Code)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	r.Header.Set("Cookie", a.cookie)
	s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		return nil
	})).
		ServeHTTP(httptest.NewRecorder(), r)
	if log := s.log.String(); strings.Contains(log, "level=ERROR") || !strings.Contains(log, "level=INFO") ||
		!strings.Contains(log, "level=DEBUG") {
		t.Errorf("log: %s", log)
	}
}

// TestLogHandlerAddsTheHandle: each line that is logged with the context of a request that uses its
// session has the handle.
func TestLogHandlerAddsTheHandle(t *testing.T) {
	out := &logBuffer{}
	log := slog.New(session.LogHandler(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo})))
	s := newSite(t, session.Config{Logger: log})
	var handle string
	line := func(ctx context.Context, l *slog.Logger) string {
		before := len(out.String())
		l.InfoContext(ctx, "line")
		return out.String()[before:]
	}
	v := s.visitor()
	v.mustDo(func(ctx context.Context, ses *session.Session) {
		if got := line(ctx, log); strings.Contains(got, "session=") {
			t.Errorf("before the session is stored: %s", got)
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
	v.mustDo(func(ctx context.Context, ses *session.Session) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if got := line(ctx, log.With("a", 1)); !strings.Contains(got, "session="+handle) ||
			!strings.Contains(got, "a=1") {
			t.Errorf("With: %s", got)
		}
		if got := line(ctx, log.WithGroup("g")); !strings.Contains(got, "g.session="+handle) {
			t.Errorf("WithGroup: %s", got)
		}
		if err := ses.SignOut(ctx); err != nil {
			t.Error(err)
		}
		// The line about the sign-out has the handle.
		if got := line(ctx, log); !strings.Contains(got, "session="+handle) {
			t.Errorf("after the sign-out: %s", got)
		}
	})
	v.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := line(r.Context(), log); strings.Contains(got, "session=") {
			t.Errorf("without From: %s", got)
		}
	}))
	if got := line(context.Background(), log); strings.Contains(got, "session=") {
		t.Errorf("outside a request: %s", got)
	}
	if log.Enabled(context.Background(), slog.LevelDebug) {
		t.Error("LogHandler ignores the level of its handler")
	}
}

// TestLogContainsNoToken: no error logs any part of a token.
func TestLogContainsNoToken(t *testing.T) {
	s := newSite(t, session.Config{Bearer: true})
	v := s.known()
	_, token, _ := strings.Cut(v.cookie, "=")
	for _, call := range []string{"load", "apply", "end"} {
		s.store.fail(call, errDown)
		v.tab().do(func(ses *session.Session) error { n.Add(ses, 1); return renew(ses) })
		v.tab().do(signOut)
	}
	s.store.up()
	s.send(http.Header{"Cookie": {v.cookie}, "Authorization": {"Bearer " + flip(token, 9)}}, nil)
	v.header["Sec-Fetch-Site"] = "cross-site"
	v.request("POST", s.m.Handler(http.NotFoundHandler()))
	log := s.log.String()
	if !strings.Contains(log, "status=400") || !strings.Contains(log, "status=403") ||
		!strings.Contains(log, "status=503") {
		t.Errorf("log: %s", log)
	}
	for i := 0; i+12 <= len(token); i += 4 {
		if part := token[i : i+12]; strings.Contains(log, part) {
			t.Errorf("%q of the token is in the log:\n%s", part, log)
		}
	}
}

// TestEventsContainNoToken: an event and its log line have no part of a token.
func TestEventsContainNoToken(t *testing.T) {
	s, l := newSiteWithEvents(t, session.Config{})
	var log logBuffer
	v := s.visitor()
	for _, do := range []func(*session.Session) error{
		increment, renew, signIn("ada"), signIn("bob"), renew, signOut,
		func(ses *session.Session) error { return nil },
	} {
		before := v.cookie
		v.do(do)
		logger := slog.New(slog.NewTextHandler(&log, nil))
		for _, e := range l.events {
			logger.Info("event", "event", e)
		}
		text := log.String() + fmt.Sprintf("%+v", l.events)
		l.drain()
		for _, cookie := range []string{before, v.cookie} {
			if _, token, ok := strings.Cut(cookie, "="); ok &&
				(strings.Contains(text, token) || strings.Contains(text, token[:20])) {
				t.Errorf("token %q is in %q", token, text)
			}
		}
	}
	if got := log.String(); !strings.Contains(got, "event.kind=renewed event.session=") ||
		!strings.Contains(got, "event.user=bob") ||
		strings.Contains(got, "reason") || !strings.Contains(got, "event.time=") {
		t.Errorf("logged %q", got)
	}
}

// TestAmbiguousCookiesAreDeletedInEachScope: a visitor with live sessions under one name, from
// earlier configurations of the cookie, gets one error. Then all of these cookies are gone.
func TestAmbiguousCookiesAreDeletedInEachScope(t *testing.T) {
	const name, domain, path = "__Secure-sid", "example.com", "/app"
	s := newSite(t, session.Config{Cookie: session.Cookie{Name: name, Domain: domain, Path: path}})
	url := &url.URL{Scheme: "https", Host: "www.example.com", Path: "/app/page"}
	jar, _ := cookiejar.New(nil)
	for _, scope := range []http.Cookie{{Path: "/"}, {Path: path}, {Path: "/", Domain: domain}, {Path: path, Domain: domain}} {
		scope.Name, scope.Secure = name, true
		_, scope.Value, _ = strings.Cut(s.mustSignIn("ada").cookie, "=")
		jar.SetCookies(url, []*http.Cookie{&scope})
	}
	for _, want := range []int{400, 200} {
		h := http.Header{}
		for _, c := range jar.Cookies(url) {
			h.Add("Cookie", c.Name+"="+c.Value)
		}
		w, _ := s.send(h, increment)
		if w.Code != want || want == 400 && len(h["Cookie"]) != 4 || want == 200 && len(h["Cookie"]) != 0 {
			t.Errorf("%d with %d cookies, want %d", w.Code, len(h["Cookie"]), want)
		}
		jar.SetCookies(url, w.Result().Cookies())
	}
	mustEqual(t, "cookies in the end", len(jar.Cookies(url)), 1)
}

// silentStore is a store that does not answer. It knows no outage: each call waits.
type silentStore struct {
	driver.Store
	hangs bool
	ends  int
}

func (h *silentStore) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if !h.hangs {
		return h.Store.Load(ctx, id)
	}
	time.Sleep(2 * time.Second)
	return nil, time.Now(), errDown
}

func (h *silentStore) End(ctx context.Context, id driver.ID) error {
	if !h.hangs {
		return h.Store.End(ctx, id)
	}
	h.ends++
	<-ctx.Done()
	return ctx.Err()
}

// TestSignOutWaitsOnceInAnOutage: a sign-out whose read has waited for the store does not wait
// again. It still asks the store to end the session.
func TestSignOutWaitsOnceInAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &silentStore{Store: memstore.New()}
		s := newNodes(t, store, session.Config{})[0]
		v := s.known()
		store.hangs = true
		begin := time.Now()
		w := v.serveRoute(session.Route{Down: session.DownAnonymous},
			func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
				return ses.SignOut(r.Context())
			})
		mustAnswer(t, w, 503)
		if took := time.Since(begin); took > 2*time.Second+200*time.Millisecond {
			t.Errorf("the sign-out took %v, want at most one wait of 2s", took)
		}
		if store.ends != 1 {
			t.Errorf("the store was asked to end the session %d times, want 1", store.ends)
		}
	})
}
