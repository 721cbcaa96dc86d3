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
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// The fields that most tests use.
const (
	n     session.Counter       = "n"
	theme session.Value[string] = "theme"
)

// More fields, one or two of each kind.
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

// key returns a key of 32 bytes b.
func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// bubble runs a test in a synctest bubble, which has fake time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// mustEqual reports an error that begins with what, unless got equals want.
func mustEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// listAll returns the user's sessions in a slice, also those before an error. It checks that an
// error comes alone and is the last item.
func listAll(ctx context.Context, m *session.Manager, user string) (list []session.Info, err error) {
	for info, failed := range m.Sessions(ctx, user) {
		switch {
		case err != nil:
			return list, errors.New("the iterator goes on after an error")
		case failed == nil:
			list = append(list, info)
		case info.Handle != "":
			return list, errors.New("the iterator yields an error together with a session")
		}
		err = failed
	}
	return list, err
}

// increment adds 1 to n.
func increment(ses *session.Session) error { n.Add(ses, 1); return nil }

// readCount reads n.
func readCount(ses *session.Session) error { n.Get(ses); return nil }

// signIn returns a function that signs in the user.
func signIn(user string) func(*session.Session) error {
	return func(ses *session.Session) error { return ses.SignIn(context.Background(), session.Login{User: user}) }
}

// signOut signs out.
func signOut(ses *session.Session) error { return ses.SignOut(context.Background()) }

// renew renews the token.
func renew(ses *session.Session) error { return ses.Renew(context.Background()) }

// site is a Manager on a faultyStore, together with its log.
type site struct {
	t     *testing.T
	store *faultyStore
	m     *session.Manager
	log   *logBuffer
}

// newSite returns a site with an empty store. The store is closed when the test ends.
func newSite(t *testing.T, cfg session.Config) *site {
	t.Helper()
	s := &site{t: t, store: newFaultyStore(), log: &logBuffer{}}
	t.Cleanup(func() { s.store.Close() })
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	var err error
	if s.m, err = session.New(s.store, patient(cfg)); err != nil {
		t.Fatal(err)
	}
	return s
}

// patient returns cfg with a longer CommitTimeout for tests outside a bubble, where the machine may
// stop during a commit.
func patient(cfg session.Config) session.Config {
	if bubbled := time.Now().Year() == 2000; !bubbled && cfg.CommitTimeout == 0 {
		cfg.CommitTimeout = time.Minute
	}
	return cfg
}

// logger returns a logger that writes to the site's log.
func (s *site) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s.log, nil)) }

// withConfig returns a second Manager on the same store and log, as after a deployment.
func (s *site) withConfig(cfg session.Config) *site {
	s.t.Helper()
	next := *s
	var err error
	cfg.Logger = s.logger()
	if next.m, err = session.New(s.store, patient(cfg)); err != nil {
		s.t.Fatal(err)
	}
	return &next
}

// visitor returns a visitor without a cookie.
func (s *site) visitor() *visitor { return &visitor{site: s, header: map[string]string{}} }

// unconfirmed returns a visitor with a new anonymous session in which n is 1. Its token has not
// come back.
func (s *site) unconfirmed() *visitor {
	v := s.visitor()
	if res := v.do(increment); res.Code != 200 || v.cookie == "" {
		s.t.Fatalf("a new session: %d, cookie %q", res.Code, v.cookie)
	}
	return v
}

// known returns a visitor with an anonymous session in which n is 1. The visitor has used it, so it
// has its whole idle limit.
func (s *site) known() *visitor {
	v := s.unconfirmed()
	if res := v.do(func(ses *session.Session) error { n.Add(ses, 0); return nil }); res.Code != 200 {
		s.t.Fatalf("the first use of a new session: %d", res.Code)
	}
	return v
}

// mustSignIn returns a visitor with a cookie from a sign-in without an earlier session.
func (s *site) mustSignIn(name string) *visitor {
	s.t.Helper()
	v := s.visitor()
	if w := v.do(signIn(name)); w.Code != 200 || len(cookies(w)) != 1 {
		s.t.Fatalf("SignIn: %d, Set-Cookie %q", w.Code, cookies(w))
	}
	return v
}

// newServer serves h inside the site's Manager, over HTTP/1.1 or HTTP/2. It returns a client with a
// cookie jar.
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

// newPlainServer serves h over http and returns its URL.
func newPlainServer(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// onBothProtocols runs a test over HTTP/1.1 and over HTTP/2.
func onBothProtocols(t *testing.T, test func(t *testing.T, http2 bool)) {
	t.Run("HTTP1", func(t *testing.T) { test(t, false) })
	t.Run("HTTP2", func(t *testing.T) { test(t, true) })
}

// mustFetch requests the URL and returns the response and its body.
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

// visitor is a browser without a network. It keeps its cookies.
type visitor struct {
	site   *site
	cookie string            // the Cookie header's value
	header map[string]string // other headers to send
}

// tab returns a second tab of the same browser. It shares no later change of the cookie.
func (v *visitor) tab() *visitor { return &visitor{site: v.site, cookie: v.cookie, header: v.header} }

// at returns the same browser as a visitor of another site.
func (v *visitor) at(s *site) *visitor {
	v = v.tab()
	v.site = s
	return v
}

// do makes a request whose handler calls f and returns its error.
func (v *visitor) do(f func(s *session.Session) error) *httptest.ResponseRecorder {
	return v.serve(func(w http.ResponseWriter, r *http.Request, s *session.Session) error { return f(s) })
}

// mustDo makes a request whose handler calls f. The response must be 200.
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

// handle makes a GET request that h handles inside the Manager.
func (v *visitor) handle(h http.Handler) *httptest.ResponseRecorder {
	return v.request("GET", v.site.m.Handler(h))
}

// request makes a request that h handles, and applies the cookies of the response.
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
	v.apply(w)
	return w
}

// apply makes the response's changes to the visitor's cookies.
func (v *visitor) apply(w *httptest.ResponseRecorder) {
	jar := (&http.Request{Header: http.Header{"Cookie": {v.cookie}}}).Cookies()
	for _, c := range w.Result().Cookies() {
		jar = slices.DeleteFunc(jar, func(old *http.Cookie) bool { return old.Name == c.Name })
		if c.MaxAge >= 0 {
			jar = append(jar, c)
		}
	}
	var pairs []string
	for _, c := range jar {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	v.cookie = strings.Join(pairs, "; ")
}

// send makes a request with these headers. The handler reads n, and calls f unless f is nil. send
// returns the response and n, or -1 if the handler did not run.
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

// count returns n as a new request reads it, or -1 if the handler did not run.
func (v *visitor) count() int64 {
	got := int64(-1)
	v.tab().do(func(s *session.Session) error { got = n.Get(s); return nil })
	return got
}

// who returns the user that a new request reads.
func (v *visitor) who() (user string) {
	v.tab().do(func(ses *session.Session) error { user = ses.User(); return nil })
	return user
}

// info returns the Info that a new request reads.
func (v *visitor) info() (i session.Info) {
	v.tab().do(func(ses *session.Session) error { i = ses.Info(); return nil })
	return i
}

// serve makes a request that f handles.
func (v *visitor) serve(f session.HandlerFunc) *httptest.ResponseRecorder { return v.handle(f) }

// serveRoute makes a request that f handles inside the route.
func (v *visitor) serveRoute(route session.Route, f session.HandlerFunc) *httptest.ResponseRecorder {
	return v.handle(route.Handler(f))
}

// cookies returns the Set-Cookie headers of a response.
func cookies(w *httptest.ResponseRecorder) []string { return w.Result().Header["Set-Cookie"] }

// newTokens returns the Set-Cookie lines that set a token, without deletions.
func newTokens(w *httptest.ResponseRecorder) []string {
	return slices.DeleteFunc(slices.Clone(cookies(w)), func(line string) bool { return strings.Contains(line, "Max-Age=0") })
}

// mustAnswer checks the status of a response, that its body names no cause, and that 503 alone has
// Retry-After, unless the outcome is unknown.
func mustAnswer(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d; body %q", w.Code, status, w.Body)
	}
	if b := w.Body.String(); strings.Contains(b, "redis") || strings.Contains(b, "session:") {
		t.Errorf("the body names the cause: %q", b)
	}
	retry, unknown := w.Result().Header.Get("Retry-After"), strings.Contains(w.Body.String(), "not known whether")
	if (retry != "") != (status == 503 && !unknown) {
		t.Errorf("status %d with Retry-After %q", status, retry)
	}
}

// flip changes the character at i.
func flip(token string, i int) string {
	c := byte('A')
	if token[i] == c {
		c = 'B'
	}
	return token[:i] + string(c) + token[i+1:]
}

// logBuffer is a log that is safe to write and read concurrently.
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

// eventLog collects the events that a listener gets.
type eventLog struct {
	mu     sync.Mutex
	events []session.Event
}

// record is a listener for Config.OnEvent.
func (l *eventLog) record(_ context.Context, e session.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// drain returns the events since the last call, each as text, and forgets them.
func (l *eventLog) drain() (texts []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		texts = append(texts,
			strings.Join(slices.DeleteFunc([]string{string(e.Kind), e.Handle, e.User, e.Before, e.Reason},
				func(s string) bool { return s == "" }), " "))
	}
	l.events = nil
	return texts
}

// newSiteWithEvents returns a site and the log of its events.
func newSiteWithEvents(t *testing.T, cfg session.Config) (*site, *eventLog) {
	l := &eventLog{}
	cfg.OnEvent = l.record
	return newSite(t, cfg), l
}

// mustReport drains the log, which must have exactly these events.
func (l *eventLog) mustReport(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := l.drain(); !slices.Equal(got, want) {
		t.Errorf("%s: events %q, want %q", what, got, want)
	}
}

// newNodes returns one site for each Config, all on the same store, like processes that share it.
func newNodes(t *testing.T, store driver.Store, configs ...session.Config) []*site {
	t.Helper()
	var all []*site
	for _, cfg := range configs {
		s := &site{t: t, log: &logBuffer{}}
		cfg.Logger = s.logger()
		var err error
		if s.m, err = session.New(store, patient(cfg)); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// followEvents collects the Manager's feed from now on. A gap is recorded as an event of kind
// "gap".
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
