package demo_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// visitor is a client with one cookie. It ignores the cookies of responses, except in keep.
type visitor struct {
	app    *app
	cookie string // "name=value", as in the request
}

// send sends one request. more lists headers as names and values.
func (v *visitor) send(ctx context.Context, method, path string, more ...string) *http.Response {
	r := httptest.NewRequestWithContext(ctx, method, path, nil)
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	for i := 0; i < len(more); i += 2 {
		r.Header.Set(more[i], more[i+1])
	}
	w := httptest.NewRecorder()
	v.app.handler.ServeHTTP(w, r)
	return w.Result()
}

// keep makes v use the cookie that a response sets. Deleted ones are ignored.
func (v *visitor) keep(resp *http.Response) {
	for _, c := range resp.Cookies() {
		if c.MaxAge >= 0 {
			v.cookie = c.Name + "=" + c.Value
		}
	}
}

// mustReadBody returns the body of a response.
func mustReadBody(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// mustVisit returns a visitor who has sent one request.
func mustVisit(t *testing.T, a *app) *visitor {
	t.Helper()
	v := &visitor{app: a}
	resp := v.send(t.Context(), "GET", "/")
	if v.keep(resp); v.cookie == "" {
		t.Fatal("the first visit set no cookie")
	}
	return v
}

// mustGetSession returns the response to GET /session.
func mustGetSession(t *testing.T, v *visitor) (s struct {
	Handle string
	Count  int64
	Slow   *struct {
		Waited int64 `json:"waited_ms"`
	} `json:"lab.slow"`
}) {
	t.Helper()
	resp := v.send(t.Context(), "GET", "/session")
	if err := json.Unmarshal([]byte(mustReadBody(t, resp)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEachVisitorHasACount(t *testing.T) {
	a := mustNewApp(t)
	one, other := mustVisit(t, a), mustVisit(t, a)
	for n := 1; n < 4; n++ {
		resp := one.send(t.Context(), "GET", "/", "Accept", "*/*")
		mustEqual(t, "response", mustReadBody(t, resp), fmt.Sprintf("Hello World #%d\n", n))
		mustEqual(t, "content type", resp.Header.Get("Content-Type"), "text/plain; charset=utf-8")
		mustEqual(t, "Set-Cookie of a known visitor", resp.Header.Get("Set-Cookie"), "")
	}
	mustEqual(t, "another visitor", mustReadBody(t, other.send(t.Context(), "GET", "/")), "Hello World #1\n")
	mustEqual(t, "shown", mustGetSession(t, one).Count, 4)
}

func TestResponseFollowsAccept(t *testing.T) {
	v := mustVisit(t, mustNewApp(t))
	for _, c := range []struct{ method, path, accept, contentType string }{
		{"GET", "/", "", "text/plain; charset=utf-8"},
		{"GET", "/", "*/*", "text/plain; charset=utf-8"},
		{"GET", "/", "text/plain, text/html;q=0", "text/plain; charset=utf-8"},
		{"GET", "/", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"},
		{"GET", "/", "application/json, text/html;q=0.5", "text/html; charset=utf-8"},
		{"POST", "/lab/add", "*/*", "text/plain; charset=utf-8"},
		{"POST", "/lab/add", "application/json", "application/json"},
		{"GET", "/session", "", "application/json"},
		{"GET", "/assets/demo.css", "", "text/css; charset=utf-8"},
		{"GET", "/assets/demo.js", "", "text/javascript; charset=utf-8"},
		{"GET", "/assets/ticket.svg", "", "image/svg+xml"},
	} {
		resp := v.send(t.Context(), c.method, c.path, "Accept", c.accept)
		mustEqual(t, c.method+" "+c.path+" for "+c.accept, resp.Header.Get("Content-Type"), c.contentType)
		mustEqual(t, c.method+" "+c.path+" status", resp.StatusCode, 200)
	}
}

// TestPageShowsNoToken checks that the page shows the handle, and not the token. It also checks the
// Content-Security-Policy.
func TestPageShowsNoToken(t *testing.T) {
	v := mustVisit(t, mustNewApp(t))
	resp := v.send(t.Context(), "GET", "/", "Accept", "text/html")
	page := mustReadBody(t, resp)
	if handle := mustGetSession(t, v).Handle; !strings.Contains(page, handle) {
		t.Errorf("the page does not show the handle %s", handle)
	}
	if _, token, _ := strings.Cut(v.cookie, "="); strings.Contains(page, token) {
		t.Error("the page shows the token")
	}
	if inline := regexp.MustCompile(`<script>|<style|\sstyle=|\son[a-z]+=`).FindString(page); inline != "" {
		t.Errorf("the page has %q, which its Content-Security-Policy forbids", inline)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") {
		t.Errorf("Content-Security-Policy: %q", policy)
	}
	mustEqual(t, "Vary", strings.Join(resp.Header.Values("Vary"), ", "), "Accept, Cookie")
}

// TestResponsesHaveSecurityHeaders checks the headers of every response: against framing, content
// sniffing, referrers to other sites, and foreign scripts. No shared cache may keep a response that
// depends on a session.
func TestResponsesHaveSecurityHeaders(t *testing.T) {
	a := mustNewApp(t)
	known, stranger := mustSignIn(t, a, "Ann", firefox), &visitor{app: a}
	for _, c := range []struct {
		v            *visitor
		method, path string
		accept       string
		status       int
	}{
		{known, "GET", "/", "text/html", 200},
		{known, "GET", "/", "*/*", 200},
		{known, "GET", "/session", "*/*", 200},
		{known, "GET", "/devices", "*/*", 200},
		{known, "POST", "/lab/slow?ms=x", "*/*", 400},
		{known, "POST", "/devices/nothing/sign-out", "*/*", 404},
		{known, "POST", "/sign-out", "text/html", 303},
		{stranger, "GET", "/", "text/html", 200},
		{stranger, "GET", "/devices", "*/*", 401},
		{stranger, "GET", "/assets/demo.js", "*/*", 200},
		{stranger, "GET", "/nowhere", "*/*", 404},
		{stranger, "PUT", "/", "*/*", 405},
	} {
		resp := c.v.send(t.Context(), c.method, c.path, "Accept", c.accept)
		what := c.method + " " + c.path + " "
		mustEqual(t, what+"status", resp.StatusCode, c.status)
		h := resp.Header
		policy := h.Get("Content-Security-Policy")
		for _, rule := range []string{
			"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'",
		} {
			if !strings.Contains(policy, rule) {
				t.Errorf("%sContent-Security-Policy: got %q, want it to have %s", what, policy, rule)
			}
		}
		mustEqual(t, what+"X-Content-Type-Options", h.Get("X-Content-Type-Options"), "nosniff")
		mustEqual(t, what+"Referrer-Policy", h.Get("Referrer-Policy"), "same-origin")
		caching := h.Get("Cache-Control")
		if h.Get("Vary") != "" && caching != "no-store" && caching != "private, no-cache" {
			t.Errorf("%sCache-Control: got %q, want no-store, or private with no-cache", what, caching)
		}
		if h.Get("Set-Cookie") != "" {
			mustEqual(t, what+"Cache-Control with Set-Cookie", h.Get("Cache-Control"), "no-store")
		}
	}
}

// TestConcurrentIncrementsAreCounted sends 400 increments, 16 at a time, with one cookie. Each must
// get a count of its own.
func TestConcurrentIncrementsAreCounted(t *testing.T) {
	v := mustVisit(t, mustNewApp(t))
	var mu sync.Mutex
	var wg sync.WaitGroup
	counts := map[string]bool{}
	for range 16 {
		wg.Go(func() {
			for range 25 {
				resp := v.send(t.Context(), "POST", "/lab/add")
				text := mustReadBody(t, resp)
				mu.Lock()
				counts[strings.TrimSpace(text)] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	mustEqual(t, "count", mustGetSession(t, v).Count, 401)
	for n := 2; n <= 401; n++ {
		if !counts[strconv.Itoa(n)] {
			t.Errorf("no response has the count %d", n)
		}
	}
}

func TestSlowRequestWaitsThenWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := mustVisit(t, mustNewApp(t))
		began := time.Now()
		resp := v.send(t.Context(), "POST", "/lab/slow?ms=2500")
		mustEqual(t, "response", mustReadBody(t, resp), "waited 2500 ms, then wrote lab.slow\n")
		mustEqual(t, "time taken", time.Since(began), 2500*time.Millisecond)
		if s := mustGetSession(t, v); s.Slow == nil || s.Slow.Waited != 2500 {
			t.Errorf("lab.slow: got %v, want 2500 ms", s.Slow)
		}
		v.send(t.Context(), "POST", "/lab/slow")
		mustEqual(t, "without ms", mustGetSession(t, v).Slow.Waited, 500)
	})
}

// TestSignOutRefusesTheSlowWrite checks that a sign-out refuses the write of a slow request, and
// that the old cookie never finds a session again.
func TestSignOutRefusesTheSlowWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := mustVisit(t, mustNewApp(t))
		handle := mustGetSession(t, v).Handle
		var slow, late *http.Response
		var wg sync.WaitGroup
		wg.Go(func() { slow = v.send(t.Context(), "POST", "/lab/slow?ms=1000") })
		wg.Go(func() { late = v.send(t.Context(), "GET", "/session?ms=1000") })
		time.Sleep(500 * time.Millisecond)
		out := v.send(t.Context(), "POST", "/sign-out")
		mustEqual(t, "sign-out", out.StatusCode, 200)
		if c := out.Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
			t.Errorf("the sign-out sets the cookies %v, want one deletion", c)
		}
		wg.Wait()

		mustEqual(t, "status of the slow request", slow.StatusCode, 409)
		mustEqual(t, "Set-Cookie of the slow request", slow.Header.Get("Set-Cookie"), "")
		mustEqual(t, "read after the sign-out", mustReadBody(t, late), `{"handle":"","count":0}`+"\n")
		mustEqual(t, "the old cookie's session", mustGetSession(t, v).Handle, "")
		resp := v.send(t.Context(), "GET", "/")
		mustEqual(t, "a visit with the old cookie", mustReadBody(t, resp), "Hello World #0\n")
		old := *v
		v.keep(resp)
		if got := mustGetSession(t, v).Handle; got == handle || got == "" {
			t.Errorf("the visit after the sign-out has session %q, want a new one", got)
		}
		mustEqual(t, "the old cookie's session after that", mustGetSession(t, &old).Handle, "")
	})
}

// TestHangUpDoesNotStopTheCommit checks that a client that hangs up ends the wait, and not the
// commit.
func TestHangUpDoesNotStopTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := mustVisit(t, mustNewApp(t))
		ctx, hangUp := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer hangUp()
		v.send(ctx, "POST", "/lab/slow?ms=5000")
		if s := mustGetSession(t, v); s.Slow == nil || s.Slow.Waited != 300 {
			t.Errorf("lab.slow: got %v, want the write after 300 ms", s.Slow)
		}
	})
}

func TestSignOutRedirectsBrowsers(t *testing.T) {
	v := mustVisit(t, mustNewApp(t))
	resp := v.send(t.Context(), "POST", "/sign-out", "Accept", "text/html")
	mustEqual(t, "status", resp.StatusCode, 303)
	mustEqual(t, "location", resp.Header.Get("Location"), "/")
	mustEqual(t, "status of a second sign-out", v.send(t.Context(), "POST", "/sign-out").StatusCode, 200)
}

func TestBadRequestsAreRefused(t *testing.T) {
	v := mustVisit(t, mustNewApp(t))
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/nowhere", 404, "404 page not found"},
		{"GET", "/lab/", 404, "404 page not found"},
		{"GET", "/assets/", 404, "404 page not found"},
		{"GET", "/assets/page.html", 404, "404 page not found"},
		{"POST", "/", 405, "Method Not Allowed"},
		{"GET", "/lab/add", 405, "Method Not Allowed"},
		{"PUT", "/lab/slow", 405, "Method Not Allowed"},
		{"GET", "/sign-out", 405, "Method Not Allowed"},
		{"POST", "/lab/slow?ms=", 400, `ms must be a whole number of milliseconds from 0 to 10000, not ""`},
		{"POST", "/lab/slow?ms=-1", 400, `not "-1"`},
		{"POST", "/lab/slow?ms=1.5", 400, `not "1.5"`},
		{"POST", "/lab/slow?ms=10001", 400, `not "10001"`},
		{"POST", "/lab/slow?ms=99999999999999999999", 400, `not "99999999999999999999"`},
		{"GET", "/session?ms=soon", 400, `not "soon"`},
	} {
		resp := v.send(t.Context(), c.method, c.path)
		mustEqual(t, c.method+" "+c.path, resp.StatusCode, c.status)
		if got := mustReadBody(t, resp); !strings.Contains(got, c.says) {
			t.Errorf("%s %s responds with %q, want it to contain %q", c.method, c.path, got, c.says)
		}
	}
	mustEqual(t, "count after the refused requests", mustGetSession(t, v).Count, 1)
}

// TestOtherSitesCannotUseTheSession checks that a request from another site can neither use a
// session nor create one.
func TestOtherSitesCannotUseTheSession(t *testing.T) {
	a := mustNewApp(t)
	known := mustVisit(t, a)
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
	} {
		for _, path := range []string{"/lab/add", "/lab/slow?ms=0", "/sign-out"} {
			resp := known.send(t.Context(), "POST", path, header...)
			mustEqual(t, fmt.Sprint(path, " with the cookie and ", header), resp.StatusCode, 403)
		}
		stranger := &visitor{app: a}
		resp := stranger.send(t.Context(), "POST", "/lab/add", header...)
		mustEqual(t, fmt.Sprint("without a cookie, ", header), resp.StatusCode, 403)
		mustEqual(t, "Set-Cookie without a cookie", resp.Header.Get("Set-Cookie"), "")
	}
	mustEqual(t, "count after the refused requests", mustGetSession(t, known).Count, 1)
	resp := known.send(t.Context(), "POST", "/lab/add", "Sec-Fetch-Site", "same-origin", "Origin", "http://example.com")
	mustEqual(t, "status for the same origin", resp.StatusCode, 200)
}

// TestLogHasHandlesAndNoToken checks that each log line of a request has the handle of its session,
// also for a sign-out and a refused write. No line has a token.
func TestLogHasHandlesAndNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := mustNewApp(t)
		v := mustVisit(t, a)
		handle := mustGetSession(t, v).Handle
		v.send(t.Context(), "GET", "/")
		v.send(t.Context(), "GET", "/", "Accept", "text/html")
		v.send(t.Context(), "POST", "/lab/add")
		var wg sync.WaitGroup
		wg.Go(func() { v.send(t.Context(), "POST", "/lab/slow?ms=1000") })
		time.Sleep(500 * time.Millisecond)
		v.send(t.Context(), "POST", "/sign-out")
		wg.Wait()

		log := a.log.String()
		lines := strings.Split(strings.TrimSpace(log), "\n")
		mustEqual(t, "lines", len(lines), 7)
		for _, line := range lines {
			if !strings.Contains(line, "session="+handle) {
				t.Errorf("the log line has no handle: %s", line)
			}
		}
		for _, want := range []string{
			"msg=visit count=0", "msg=visit count=2", "msg=added count=4",
			"slow request started", "signed out", "status=409",
		} {
			if !strings.Contains(log, want) {
				t.Errorf("the log has no %q", want)
			}
		}
		_, token, _ := strings.Cut(v.cookie, "=")
		for _, secret := range []string{token, token[len(token)-20:]} {
			if strings.Contains(log, secret) {
				t.Errorf("the log has a token: %s", log)
			}
		}
	})
}

// TestStopsAreListedAndShowTheirCode checks that the start page says what each stop shows, that the
// navigation of each page has all stops and marks its own, and that the page shows Go code.
func TestStopsAreListedAndShowTheirCode(t *testing.T) {
	v := mustVisit(t, mustNewApp(t))
	start := mustReadBody(t, v.send(t.Context(), "GET", "/", "Accept", "text/html"))
	stops := map[string]string{
		"/": "Each visit adds 1", "/lab": "no change is lost", "/account": "Sign in on two devices",
		"/shop": "every addition counts", "/game": "exactly one gets it",
	}
	for path, shows := range stops {
		if !strings.Contains(start, shows) {
			t.Errorf("the start page does not say %q", shows)
		}
		page := mustReadBody(t, v.send(t.Context(), "GET", path, "Accept", "text/html"))
		for other := range stops {
			if !strings.Contains(page, `<a href="`+other+`"`) {
				t.Errorf("%s has no link to %s", path, other)
			}
		}
		if !strings.Contains(page, `<a href="`+path+`" aria-current="page">`) {
			t.Errorf("%s does not mark its place in the navigation", path)
		}
		if !strings.Contains(page, `<span class="keyword">func</span>`) {
			t.Errorf("%s shows no Go code", path)
		}
	}
}
