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

// visitor is a client with one cookie, whatever the server says later, unless it takes the new one.
type visitor struct {
	app    *app
	cookie string // as it is sent: "name=value"
}

// send is one request. More are headers, by name and value.
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

// keep stores the cookie that a response sets.
func (v *visitor) keep(resp *http.Response) {
	for _, c := range resp.Cookies() {
		v.cookie = c.Name + "=" + c.Value
	}
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// arrive is a visitor who has been there once.
func arrive(t *testing.T, a *app) *visitor {
	t.Helper()
	v := &visitor{app: a}
	resp := v.send(t.Context(), "GET", "/")
	if v.keep(resp); v.cookie == "" {
		t.Fatal("the first visit set no cookie")
	}
	return v
}

// shown is what GET /session answers.
func shown(t *testing.T, v *visitor) (s struct {
	Handle string
	Count  int64
	Slow   *struct {
		Waited int64 `json:"waited_ms"`
	} `json:"lab.slow"`
}) {
	t.Helper()
	resp := v.send(t.Context(), "GET", "/session")
	if err := json.Unmarshal([]byte(body(t, resp)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVisitsCount(t *testing.T) {
	a := newApp(t)
	one, other := arrive(t, a), arrive(t, a)
	for n := 1; n < 4; n++ {
		resp := one.send(t.Context(), "GET", "/", "Accept", "*/*")
		equal(t, "answer", body(t, resp), fmt.Sprintf("Hello World #%d\n", n))
		equal(t, "content type", resp.Header.Get("Content-Type"), "text/plain; charset=utf-8")
		equal(t, "Set-Cookie of a known visitor", resp.Header.Get("Set-Cookie"), "")
	}
	equal(t, "another visitor", body(t, other.send(t.Context(), "GET", "/")), "Hello World #1\n")
	equal(t, "shown", shown(t, one).Count, 4)
}

func TestAnswerByAccept(t *testing.T) {
	v := arrive(t, newApp(t))
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
		equal(t, c.method+" "+c.path+" for "+c.accept, resp.Header.Get("Content-Type"), c.contentType)
		equal(t, c.method+" "+c.path+" status", resp.StatusCode, 200)
	}
}

// TestPageShowsNoToken: the page has the handle and the strict policy, and nothing in it is the token.
func TestPageShowsNoToken(t *testing.T) {
	v := arrive(t, newApp(t))
	resp := v.send(t.Context(), "GET", "/", "Accept", "text/html")
	page := body(t, resp)
	if handle := shown(t, v).Handle; !strings.Contains(page, handle) {
		t.Errorf("the page does not show the handle %s", handle)
	}
	if _, token, _ := strings.Cut(v.cookie, "="); strings.Contains(page, token) {
		t.Error("the page shows the token")
	}
	if inline := regexp.MustCompile(`<script>|<style|\sstyle=|\son[a-z]+=`).FindString(page); inline != "" {
		t.Errorf("the page has %q, which its policy refuses", inline)
	}
	if policy := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") {
		t.Errorf("Content-Security-Policy: %q", policy)
	}
	equal(t, "Vary", strings.Join(resp.Header.Values("Vary"), ", "), "Accept, Cookie")
}

// TestSecured: every response has the headers that keep it from being framed, sniffed, told about or scripted from elsewhere, and one that
// has to do with a session is in no shared cache.
func TestSecured(t *testing.T) {
	a := newApp(t)
	known, stranger := enter(t, a, "Ann", firefox), &visitor{app: a}
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
		equal(t, what+"status", resp.StatusCode, c.status)
		h := resp.Header
		for _, rule := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(h.Get("Content-Security-Policy"), rule) {
				t.Errorf("%sContent-Security-Policy %q: no %s", what, h.Get("Content-Security-Policy"), rule)
			}
		}
		equal(t, what+"X-Content-Type-Options", h.Get("X-Content-Type-Options"), "nosniff")
		equal(t, what+"Referrer-Policy", h.Get("Referrer-Policy"), "same-origin")
		if caching := h.Get("Cache-Control"); h.Get("Vary") != "" && caching != "no-store" && caching != "private, no-cache" {
			t.Errorf("%sCache-Control %q", what, caching)
		}
		if h.Get("Set-Cookie") != "" {
			equal(t, what+"Cache-Control, with a cookie", h.Get("Cache-Control"), "no-store")
		}
	}
}

// Test400Increments: 16 at a time through one cookie, and each has an answer of its own.
func Test400Increments(t *testing.T) {
	v := arrive(t, newApp(t))
	var mu sync.Mutex
	var wg sync.WaitGroup
	answers := map[string]bool{}
	for range 16 {
		wg.Go(func() {
			for range 25 {
				resp := v.send(t.Context(), "POST", "/lab/add")
				answer := body(t, resp)
				mu.Lock()
				answers[strings.TrimSpace(answer)] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	equal(t, "count", shown(t, v).Count, 401)
	for n := 2; n <= 401; n++ {
		if !answers[strconv.Itoa(n)] {
			t.Errorf("no request was answered %d", n)
		}
	}
}

func TestSlowWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := arrive(t, newApp(t))
		began := time.Now()
		equal(t, "answer", body(t, v.send(t.Context(), "POST", "/lab/slow?ms=2500")), "waited 2500 ms, then wrote lab.slow\n")
		equal(t, "time taken", time.Since(began), 2500*time.Millisecond)
		if s := shown(t, v); s.Slow == nil || s.Slow.Waited != 2500 {
			t.Errorf("lab.slow: %v, want 2500 ms", s.Slow)
		}
		v.send(t.Context(), "POST", "/lab/slow")
		equal(t, "without ms", shown(t, v).Slow.Waited, 500)
	})
}

// TestSignOutDuringSlow: the slow request is refused, and the cookie from before leads to nothing, then and later.
func TestSignOutDuringSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := arrive(t, newApp(t))
		handle := shown(t, v).Handle
		var slow, late *http.Response
		var wg sync.WaitGroup
		wg.Go(func() { slow = v.send(t.Context(), "POST", "/lab/slow?ms=1000") })
		wg.Go(func() { late = v.send(t.Context(), "GET", "/session?ms=1000") })
		time.Sleep(500 * time.Millisecond)
		out := v.send(t.Context(), "POST", "/sign-out")
		equal(t, "sign-out", out.StatusCode, 200)
		if c := out.Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
			t.Errorf("sign-out sets the cookies %v, want one that is deleted", c)
		}
		wg.Wait()

		equal(t, "slow", slow.StatusCode, 409)
		equal(t, "slow's Set-Cookie", slow.Header.Get("Set-Cookie"), "")
		equal(t, "looked up after the sign-out", body(t, late), `{"handle":"","count":0}`+"\n")
		equal(t, "the old cookie's session", shown(t, v).Handle, "")
		resp := v.send(t.Context(), "GET", "/")
		equal(t, "a visit with the old cookie", body(t, resp), "Hello World #0\n")
		old := *v
		v.keep(resp)
		if got := shown(t, v).Handle; got == handle || got == "" {
			t.Errorf("the visit after the sign-out has the session %q, want a new one", got)
		}
		equal(t, "the old cookie's session after that", shown(t, &old).Handle, "")
	})
}

// TestHangUp: a client that hangs up ends the wait, not the commit.
func TestHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := arrive(t, newApp(t))
		ctx, hangUp := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer hangUp()
		v.send(ctx, "POST", "/lab/slow?ms=5000")
		if s := shown(t, v); s.Slow == nil || s.Slow.Waited != 300 {
			t.Errorf("lab.slow: %v, want what was written after 300 ms", s.Slow)
		}
	})
}

func TestSignOutOfBrowsers(t *testing.T) {
	v := arrive(t, newApp(t))
	resp := v.send(t.Context(), "POST", "/sign-out", "Accept", "text/html")
	equal(t, "status", resp.StatusCode, 303)
	equal(t, "location", resp.Header.Get("Location"), "/")
	equal(t, "again, with nothing to end", v.send(t.Context(), "POST", "/sign-out").StatusCode, 200)
}

func TestRefused(t *testing.T) {
	v := arrive(t, newApp(t))
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/nowhere", 404, "404 page not found"},
		{"GET", "/lab", 404, "404 page not found"},
		{"GET", "/assets/", 404, "404 page not found"},
		{"GET", "/assets/page.html", 404, "404 page not found"},
		{"POST", "/", 405, "Method Not Allowed"},
		{"GET", "/lab/add", 405, "Method Not Allowed"},
		{"PUT", "/lab/slow", 405, "Method Not Allowed"},
		{"GET", "/sign-out", 405, "Method Not Allowed"},
		{"POST", "/lab/slow?ms=", 400, `ms is how many milliseconds to wait: a whole number from 0 to 10000, not ""`},
		{"POST", "/lab/slow?ms=-1", 400, `not "-1"`},
		{"POST", "/lab/slow?ms=1.5", 400, `not "1.5"`},
		{"POST", "/lab/slow?ms=10001", 400, `not "10001"`},
		{"POST", "/lab/slow?ms=99999999999999999999", 400, `not "99999999999999999999"`},
		{"GET", "/session?ms=soon", 400, `not "soon"`},
	} {
		resp := v.send(t.Context(), c.method, c.path)
		equal(t, c.method+" "+c.path, resp.StatusCode, c.status)
		if got := body(t, resp); !strings.Contains(got, c.says) {
			t.Errorf("%s %s says %q, want %q in it", c.method, c.path, got, c.says)
		}
	}
	equal(t, "count after all that", shown(t, v).Count, 1)
}

// TestCrossOrigin: another site can neither use the session nor plant one.
func TestCrossOrigin(t *testing.T) {
	a := newApp(t)
	known := arrive(t, a)
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
	} {
		for _, path := range []string{"/lab/add", "/lab/slow?ms=0", "/sign-out"} {
			resp := known.send(t.Context(), "POST", path, header...)
			equal(t, fmt.Sprint(path, " with the cookie and ", header), resp.StatusCode, 403)
		}
		stranger := &visitor{app: a}
		resp := stranger.send(t.Context(), "POST", "/lab/add", header...)
		equal(t, fmt.Sprint("without a cookie, ", header), resp.StatusCode, 403)
		equal(t, "its Set-Cookie", resp.Header.Get("Set-Cookie"), "")
	}
	equal(t, "count after all that", shown(t, known).Count, 1)
	equal(t, "the same origin", known.send(t.Context(), "POST", "/lab/add", "Sec-Fetch-Site", "same-origin", "Origin", "http://example.com").StatusCode, 200)
}

// TestLog: each line of a request has the handle, the sign-out's and the refusal's included, and none has a token.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp(t)
		v := arrive(t, a)
		handle := shown(t, v).Handle
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
		equal(t, "lines", len(lines), 7)
		for _, line := range lines {
			if !strings.Contains(line, "session="+handle) {
				t.Errorf("no handle: %s", line)
			}
		}
		for _, want := range []string{"msg=visit count=0", "msg=visit count=2", "msg=added count=4", "slow request begins", "signed out", "status=409"} {
			if !strings.Contains(log, want) {
				t.Errorf("the log does not say %q", want)
			}
		}
		_, token, _ := strings.Cut(v.cookie, "=")
		for _, secret := range []string{token, token[len(token)-20:]} {
			if strings.Contains(log, secret) {
				t.Errorf("the log has the token: %s", log)
			}
		}
	})
}
