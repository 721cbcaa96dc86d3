package session_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

const (
	n     session.Counter       = "n"
	theme session.Value[string] = "theme"
)

// faulty is a memstore that counts its calls and does what a test wants instead of some.
type faulty struct {
	*memstore.Store
	loads, creates, applies, touches, ends, signIns, endUsers atomic.Int64

	mu        sync.Mutex
	fault     func(call string) error // an error in place of the call; nil does the call
	after     func(call string) error // an error once the call has been done
	principal *driver.Principal       // of the sessions that are created
	seen      map[driver.ID]bool      // created
	noRecord  bool                    // SignIn returns no record, as a store may
}

func newFaulty() *faulty { return &faulty{Store: memstore.New(), seen: map[driver.ID]bool{}} }

var errDown = driverError("connection refused by redis-7.internal")

type driverError string

func (e driverError) Error() string { return string(e) }

func (f *faulty) set(fault func(call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// down makes all calls fail; up ends it.
func (f *faulty) down() { f.set(func(string) error { return errDown }) }
func (f *faulty) up()   { f.set(nil) }

// fail makes one kind of call fail.
func (f *faulty) fail(which string, err error) {
	f.set(func(call string) error {
		if call == which {
			return err
		}
		return nil
	})
}

func (f *faulty) before(call string, count *atomic.Int64) error {
	count.Add(1)
	f.mu.Lock()
	fault := f.fault
	f.mu.Unlock()
	if fault != nil {
		return fault(call)
	}
	return nil
}

func (f *faulty) done(call string, err error) error {
	f.mu.Lock()
	after := f.after
	f.mu.Unlock()
	if err == nil && after != nil {
		return after(call)
	}
	return err
}

func (f *faulty) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if err := f.before("load", &f.loads); err != nil {
		return nil, time.Time{}, err
	}
	return f.Store.Load(ctx, id)
}

func (f *faulty) Create(ctx context.Context, id driver.ID, o *driver.Origin, c *driver.Change) (*driver.Result, error) {
	if err := f.before("create", &f.creates); err != nil {
		return nil, err
	}
	f.mu.Lock()
	o.Principal = f.principal
	f.seen[id] = true
	f.mu.Unlock()
	res, err := f.Store.Create(ctx, id, o, c)
	return res, f.done("create", err)
}

func (f *faulty) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if err := f.before("apply", &f.applies); err != nil {
		return nil, err
	}
	res, err := f.Store.Apply(ctx, id, c)
	return res, f.done("apply", err)
}

func (f *faulty) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	if err := f.before("touch", &f.touches); err != nil {
		return err
	}
	return f.Store.Touch(ctx, id, verifier)
}

func (f *faulty) End(ctx context.Context, id driver.ID) error {
	if err := f.before("end", &f.ends); err != nil {
		return err
	}
	return f.Store.End(ctx, id)
}

func (f *faulty) EndOwned(ctx context.Context, id driver.ID, owner driver.Hash) (bool, error) {
	if err := f.before("end", &f.ends); err != nil {
		return false, err
	}
	return f.Store.EndOwned(ctx, id, owner)
}

func (f *faulty) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	if err := f.before("signin", &f.signIns); err != nil {
		return nil, err
	}
	res, err := f.Store.SignIn(ctx, id, in)
	if err == nil && f.noRecord {
		res = &driver.Result{Now: res.Now}
	}
	return res, f.done("signin", err)
}

func (f *faulty) EndUser(ctx context.Context, owner driver.Hash, which driver.Selection) ([]driver.ID, error) {
	if err := f.before("enduser", &f.endUsers); err != nil {
		return nil, err
	}
	return f.Store.EndUser(ctx, owner, which)
}

// site is a Manager on a faulty store, with its log.
type site struct {
	t     *testing.T
	store *faulty
	m     *session.Manager
	log   *logged
}

func newSite(t *testing.T, cfg session.Config) *site {
	t.Helper()
	s := &site{t: t, store: newFaulty(), log: &logged{}}
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

// logged is a log that may be written and read at the same time.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// visitor is a browser without a network: it keeps its cookies.
type visitor struct {
	site   *site
	cookie string            // as the Cookie header has it
	header map[string]string // more to send
}

func (s *site) visitor() *visitor { return &visitor{site: s, header: map[string]string{}} }

// known is a visitor with a session in which n is 1.
func (s *site) known() *visitor {
	v := s.visitor()
	if res := v.do(func(s *session.Session) error { n.Add(s, 1); return nil }); res.Code != 200 || v.cookie == "" {
		s.t.Fatalf("a new session: %d, cookie %q", res.Code, v.cookie)
	}
	return v
}

// also is another tab of the same browser.
func (v *visitor) also() *visitor { return &visitor{site: v.site, cookie: v.cookie, header: v.header} }

func (v *visitor) do(f func(s *session.Session) error) *httptest.ResponseRecorder {
	return v.handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error { return f(s) }))
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

// count returns n as a new request sees it; -1 if the request fails.
func (v *visitor) count() int64 {
	got := int64(-1)
	v.also().do(func(s *session.Session) error { got = n.Get(s); return nil })
	return got
}

func cookies(w *httptest.ResponseRecorder) []string { return w.Result().Header["Set-Cookie"] }

// wantAnswer checks that a response is one clean error.
func wantAnswer(t *testing.T, w *httptest.ResponseRecorder, status int) {
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

// server serves h inside the site's Manager, on HTTP/1.1 or HTTP/2, and returns a client with a cookie jar.
func (s *site) server(t *testing.T, http2 bool, h http.Handler) (*httptest.Server, *http.Client) {
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

// fetch returns a response and its body.
func fetch(t *testing.T, c *http.Client, url string) (*http.Response, string) {
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

// onBoth runs a test on HTTP/1.1 and on HTTP/2.
func onBoth(t *testing.T, test func(t *testing.T, http2 bool)) {
	t.Run("HTTP1", func(t *testing.T) { test(t, false) })
	t.Run("HTTP2", func(t *testing.T) { test(t, true) })
}

// plainServer serves h over http and returns its URL.
func plainServer(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func (s *site) discardLog() *slog.Logger { return slog.New(slog.NewTextHandler(s.log, nil)) }

// endAll ends all sessions that were created, behind everybody's back.
func (f *faulty) endAll(t *testing.T) {
	f.mu.Lock()
	ids := f.seen
	f.mu.Unlock()
	for id := range ids {
		if err := f.Store.End(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// bubble runs a test under fake time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
