package session_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

const (
	n     session.Counter       = "n"
	theme session.Value[string] = "theme"
)

const (
	cart   session.Counters        = "cart"
	gifts  session.Map[gift]       = "gifts"
	notice session.Value[string]   = "notice"
	basket session.Value[[]string] = "basket"
)

type gift struct {
	For   string `json:"for"`
	Price int    `json:"price"`
}

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// bubble runs a test under fake time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func mustEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func increment(ses *session.Session) error { n.Add(ses, 1); return nil }

func readCount(ses *session.Session) error { n.Get(ses); return nil }

func signIn(user string) func(*session.Session) error {
	return func(ses *session.Session) error { return ses.SignIn(context.Background(), session.Login{User: user}) }
}

func signOut(ses *session.Session) error { return ses.SignOut(context.Background()) }

func renew(ses *session.Session) error { return ses.Renew(context.Background()) }

// site is a Manager on a faulty store, with its log.
type site struct {
	t     *testing.T
	store *faultyStore
	m     *session.Manager
	log   *logBuffer
}

func newSite(t *testing.T, cfg session.Config) *site {
	t.Helper()
	s := &site{t: t, store: newFaultyStore(), log: &logBuffer{}}
	t.Cleanup(func() { s.store.Close() })
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	var err error
	if s.m, err = session.New(s.store, cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s.log, nil)) }

// with is another Manager on the same store: the same site after a deployment.
func (s *site) withConfig(cfg session.Config) *site {
	s.t.Helper()
	next := *s
	var err error
	cfg.Logger = s.logger()
	if next.m, err = session.New(s.store, cfg); err != nil {
		s.t.Fatal(err)
	}
	return &next
}

func (s *site) visitor() *visitor { return &visitor{site: s, header: map[string]string{}} }

// known is a visitor with a session in which n is 1.
func (s *site) known() *visitor {
	v := s.visitor()
	if res := v.do(increment); res.Code != 200 || v.cookie == "" {
		s.t.Fatalf("a new session: %d, cookie %q", res.Code, v.cookie)
	}
	return v
}

// user is a visitor who signs in, from no session.
func (s *site) mustSignIn(name string) *visitor {
	s.t.Helper()
	v := s.visitor()
	if w := v.do(signIn(name)); w.Code != 200 || len(cookies(w)) != 1 {
		s.t.Fatalf("SignIn: %d, Set-Cookie %q", w.Code, cookies(w))
	}
	return v
}

// server serves h inside the site's Manager, on HTTP/1.1 or HTTP/2, and returns a client with a cookie jar.
func (s *site) newServer(t *testing.T, http2 bool, h http.Handler) (*httptest.Server, *http.Client) {
	t.Helper()
	srv := httptest.NewUnstartedServer(s.m.Handler(h))
	srv.EnableHTTP2 = http2
	srv.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(s.log, nil), slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	c := srv.Client()
	c.Jar, _ = cookiejar.New(nil)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return srv, c
}

// plainServer serves h over http and returns its URL.
func newPlainServer(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// onBoth runs a test on HTTP/1.1 and on HTTP/2.
func onBothProtocols(t *testing.T, test func(t *testing.T, http2 bool)) {
	t.Run("HTTP1", func(t *testing.T) { test(t, false) })
	t.Run("HTTP2", func(t *testing.T) { test(t, true) })
}

// fetch returns a response and its body.
func mustFetch(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// visitor is a browser without a network: it keeps its cookies.
type visitor struct {
	site   *site
	cookie string            // as the Cookie header has it
	header map[string]string // more to send
}

// also is another tab of the same browser.
func (v *visitor) tab() *visitor { return &visitor{site: v.site, cookie: v.cookie, header: v.header} }

// at is the same browser at another deployment.
func (v *visitor) at(s *site) *visitor {
	v = v.tab()
	v.site = s
	return v
}

func (v *visitor) do(f func(s *session.Session) error) *httptest.ResponseRecorder {
	return v.serve(func(w http.ResponseWriter, r *http.Request, s *session.Session) error { return f(s) })
}

// inRequest runs f in a request of v, whose answer must be 200.
func (v *visitor) mustDo(f func(ctx context.Context, s *session.Session)) {
	v.site.t.Helper()
	w := v.serve(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		f(r.Context(), s)
		return nil
	})
	if w.Code != 200 {
		v.site.t.Errorf("%d %s\n%s", w.Code, w.Body, v.site.log)
	}
}

func (v *visitor) handle(h http.Handler) *httptest.ResponseRecorder {
	return v.request("GET", v.site.m.Handler(h))
}

func (v *visitor) request(method string, h http.Handler) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://shop.example/", nil)
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	for name, value := range v.header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if v.cookie = c.Name + "=" + c.Value; c.MaxAge < 0 {
			v.cookie = ""
		}
	}
	return w
}

// send sends a request with these header lines and returns its response and n.
func (s *site) send(h http.Header, f func(*session.Session) error) (*httptest.ResponseRecorder, int64) {
	got := int64(-1)
	r := httptest.NewRequest("GET", "https://shop.example/", nil)
	r.Header = h
	w := httptest.NewRecorder()
	s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		got = n.Get(ses)
		if f != nil {
			return f(ses)
		}
		return nil
	})).ServeHTTP(w, r)
	return w, got
}

// count returns n as a new request sees it; -1 if the request fails.
func (v *visitor) count() int64 {
	got := int64(-1)
	v.tab().do(func(s *session.Session) error { got = n.Get(s); return nil })
	return got
}

// who returns the user that a new request sees.
func (v *visitor) who() (user string) {
	v.tab().do(func(ses *session.Session) error { user = ses.User(); return nil })
	return user
}

func (v *visitor) info() (i session.Info) {
	v.tab().do(func(ses *session.Session) error { i = ses.Info(); return nil })
	return i
}

// serve makes a request that f handles.
func (v *visitor) serve(f session.HandlerFunc) *httptest.ResponseRecorder { return v.handle(f) }

// serveRoute makes a request that f handles within the route.
func (v *visitor) serveRoute(route session.Route, f session.HandlerFunc) *httptest.ResponseRecorder {
	return v.handle(route.Handler(f))
}

func cookies(w *httptest.ResponseRecorder) []string { return w.Result().Header["Set-Cookie"] }

// wantAnswer checks that a response is one clean error.
func mustAnswer(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d; body %q", w.Code, status, w.Body)
	}
	if b := w.Body.String(); strings.Contains(b, "redis") || strings.Contains(b, "session:") {
		t.Errorf("the client is told the cause: %q", b)
	}
	if retry := w.Result().Header.Get("Retry-After"); (retry != "") != (status == 503) {
		t.Errorf("status %d with Retry-After %q", status, retry)
	}
}

// flip changes one character of a token.
func flip(token string, i int) string {
	c := byte('A')
	if token[i] == c {
		c = 'B'
	}
	return token[:i] + string(c) + token[i+1:]
}

// logged is a log that may be written and read at the same time.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// told collects events.
type eventLog struct {
	mu     sync.Mutex
	events []session.Event
}

func (l *eventLog) record(_ context.Context, e session.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// take returns the events since the last call, as text.
func (l *eventLog) drain() (texts []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		texts = append(texts, strings.Join(slices.DeleteFunc([]string{string(e.Kind), e.Handle, e.User, e.Before, e.Reason},
			func(s string) bool { return s == "" }), " "))
	}
	l.events = nil
	return texts
}

// listening is a site whose events are told.
func newSiteWithEvents(t *testing.T, cfg session.Config) (*site, *eventLog) {
	l := &eventLog{}
	cfg.OnEvent = l.record
	return newSite(t, cfg), l
}

func (l *eventLog) mustReport(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := l.drain(); !slices.Equal(got, want) {
		t.Errorf("%s: told of %q, want %q", what, got, want)
	}
}

// nodes are Managers on one store, as processes that share it have them.
func newNodes(t *testing.T, store driver.Store, configs ...session.Config) []*site {
	t.Helper()
	var all []*site
	for _, cfg := range configs {
		s := &site{t: t, log: &logBuffer{}}
		cfg.Logger = s.logger()
		var err error
		if s.m, err = session.New(store, cfg); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// follow collects what a Manager is told by others, from now on; gaps are events of the kind "gap".
func followEvents(t *testing.T, m *session.Manager) *eventLog {
	l := &eventLog{}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	events := m.Events(ctx)
	go func() {
		for e, err := range events {
			if errors.Is(err, session.ErrGap) {
				e.Kind = "gap"
			} else if err != nil {
				e = session.Event{Kind: "error", Reason: err.Error()}
			}
			l.record(ctx, e)
		}
	}()
	return l
}
