package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coatcheck-go/session"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/oauth2"
)

// site is the application and a certified implementation of an identity provider, each on a
// loopback address.
type site struct {
	app       *app
	url       string
	exchanges atomic.Int64 // requests for tokens
}

func newSite(t *testing.T, formPost bool) *site {
	t.Helper()
	s := &site{}
	// The provider is another site than the application: 127.0.0.1 and not localhost.
	provider := httptest.NewServer(nil)
	t.Cleanup(provider.Close)
	application := httptest.NewServer(nil)
	t.Cleanup(application.Close)
	s.url = strings.Replace(application.URL, "127.0.0.1", "localhost", 1)

	storage.RegisterClients(storage.WebClient(s.url, "secret", s.url+"/callback"))
	idp := exampleop.SetupServer(provider.URL, storage.NewStorage(storage.NewUserStore(provider.URL)), nil, false, op.WithAllowInsecure())
	provider.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oauth/token" {
			s.exchanges.Add(1)
		}
		idp.ServeHTTP(w, r)
	})
	sessions, err := newSessions()
	if err != nil {
		t.Fatal(err)
	}
	s.app, err = newApp(t.Context(), sessions, provider.URL, oauth2.Config{
		ClientID: s.url, ClientSecret: "secret", RedirectURL: s.url + "/callback",
	})
	if err != nil {
		t.Fatal(err)
	}
	s.app.formPost = formPost
	application.Config.Handler = s.app.handler()
	return s
}

// browser is a client with cookies. It sends Secure cookies to localhost, as browsers do.
type browser struct {
	t *testing.T
	*http.Client
}

func newBrowser(t *testing.T) *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{t, &http.Client{Jar: secureOnLocalhost{jar}}}
}

// secureOnLocalhost is a jar for http://localhost.
type secureOnLocalhost struct{ *cookiejar.Jar }

func (j secureOnLocalhost) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.Jar.SetCookies(https(u), cookies)
}
func (j secureOnLocalhost) Cookies(u *url.URL) []*http.Cookie { return j.Jar.Cookies(https(u)) }

func https(u *url.URL) *url.URL { s := *u; s.Scheme = "https"; return &s }

// get returns the last page, and the response that brought it.
func (b *browser) get(url string) (string, *http.Response) {
	b.t.Helper()
	res, err := b.Get(url)
	return b.read(res, err)
}

func (b *browser) read(res *http.Response, err error) (string, *http.Response) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(body), res
}

var requestID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// authenticate fills in the provider's form, and returns the page that the provider leads to.
func (b *browser) authenticate(page string, from *http.Response) (string, *http.Response) {
	b.t.Helper()
	id := requestID.FindStringSubmatch(page)
	if id == nil {
		b.t.Fatalf("not the provider's form: %s: %s", from.Request.URL, page)
	}
	return b.read(b.PostForm(from.Request.URL.Scheme+"://"+from.Request.URL.Host+"/login/username", url.Values{
		"id": {id[1]}, "username": {"test-user2"}, "password": {"verysecure"},
	}))
}

func TestSignIn(t *testing.T) {
	s, b := newSite(t, false), newBrowser(t)
	page, _ := b.authenticate(b.get(s.url + "/"))
	if !strings.HasPrefix(page, "signed in as http://127.0.0.1") || !strings.HasSuffix(page, " id2\n") {
		t.Fatalf("got %q", page)
	}
	if page, res := b.get(s.url + "/password"); res.Request.URL.Path != "/password" {
		t.Errorf("a user who has just authenticated is asked again: %s", page)
	}
}

func TestTwoTabsSignInAtOnce(t *testing.T) {
	s, b := newSite(t, false), newBrowser(t)
	first, firstRes := b.get(s.url + "/")
	second, secondRes := b.get(s.url + "/")
	if page, _ := b.authenticate(first, firstRes); !strings.HasPrefix(page, "signed in") {
		t.Errorf("the first tab: %s", page)
	}
	// The sign-in in the first tab has made a new session, which does not know the second attempt.
	if page, res := b.authenticate(second, secondRes); !strings.HasPrefix(page, "signed in") {
		t.Errorf("the second tab: %d %s", res.StatusCode, page)
	}
}

func TestCallbackRefuses(t *testing.T) {
	s, b := newSite(t, false), newBrowser(t)
	var callback *url.URL // the provider's answer, kept from the application
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/callback" {
			callback = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}
	b.authenticate(b.get(s.url + "/"))
	with := func(name, value string) string {
		u, q := *callback, callback.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
		return u.String()
	}
	if page, res := newBrowser(t).get(callback.String()); res.StatusCode != 400 {
		t.Errorf("a callback in another browser, as in login CSRF: %d %s", res.StatusCode, page)
	}
	for _, state := range []string{"", "unknown", strings.Repeat("x", 1000), "\x00\n"} {
		if page, res := b.get(with("state", state)); res.StatusCode != 400 {
			t.Errorf("state %.10q: %d %s", state, res.StatusCode, page)
		}
	}
	stateOf := func(cookies []*http.Cookie) string {
		copied := newBrowser(t)
		copied.Jar.SetCookies(callback, cookies)
		page, res := copied.get(callback.String())
		return strconv.Itoa(res.StatusCode) + " " + page
	}
	before := b.Jar.Cookies(callback)
	b.CheckRedirect = nil
	if page, _ := b.get(callback.String()); !strings.HasPrefix(page, "signed in") {
		t.Errorf("the right state after the wrong ones: %s", page)
	}
	if got := stateOf(before); !strings.HasPrefix(got, "4") {
		t.Errorf("the same state again, with the old cookie: %s", got)
	}
}

func TestCallbackRefusesCodeAndError(t *testing.T) {
	for name, value := range map[string]string{"code": "forged", "error": "access_denied"} {
		s, b := newSite(t, false), newBrowser(t)
		b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
			if q := r.URL.Query(); r.URL.Path == "/callback" {
				q.Set(name, value)
				r.URL.RawQuery = q.Encode()
			}
			return nil
		}
		if page, res := b.authenticate(b.get(s.url + "/")); res.StatusCode != 400 {
			t.Errorf("%s=%s: %d %s", name, value, res.StatusCode, page)
		}
	}
}

func TestLocalPath(t *testing.T) {
	for path, want := range map[string]string{
		"/a?b=c": "/a?b=c", "": "/", "//evil.example": "/", `/\evil.example`: "/", "https://evil.example": "/", "/\t/evil.example": "/",
	} {
		if got := localPath(path); got != want {
			t.Errorf("localPath(%q) = %q, want %q", path, got, want)
		}
	}
}

// TestAccessTokenIsRefreshedOnce: of requests that find the token expired, one asks the provider.
func TestAccessTokenIsRefreshedOnce(t *testing.T) {
	s, b := newSite(t, false), newBrowser(t)
	b.authenticate(b.get(s.url + "/"))
	u, _ := url.Parse(s.url)
	load := func() (context.Context, *session.Session) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		for _, c := range b.Jar.Cookies(u) {
			r.AddCookie(c)
		}
		ctx, err := s.app.sessions.Load(r)
		if err != nil {
			t.Fatal(err)
		}
		ses, err := session.From(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return ctx, ses
	}
	ctx, ses := load()
	before := tokens.Get(ses)
	if before.AccessToken == "" || before.RefreshToken == "" {
		t.Fatalf("the session has no tokens")
	}
	expired := before
	expired.Expiry = time.Now().Add(-time.Minute)
	tokens.Set(ses, expired)
	if err := ses.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	asked := s.exchanges.Load()
	results := make(chan string)
	for range 10 {
		go func() {
			ctx, ses := load()
			token, err := s.app.accessToken(ctx, ses)
			if err != nil {
				token = err.Error()
			}
			results <- token
		}()
	}
	first := <-results
	for range 9 {
		if next := <-results; next != first || next == before.AccessToken {
			t.Errorf("token %q, and %q of another request", next, first)
		}
	}
	if got := s.exchanges.Load() - asked; got != 1 {
		t.Errorf("the provider was asked %d times", got)
	}
}

// TestBrowser signs in and out with a real browser, which decides about cookies by itself. The
// provider is another site than the application.
func TestBrowser(t *testing.T) {
	for name, formPost := range map[string]bool{"query": false, "form_post": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, formPost)
			ctx := newChromium(t)
			_, err := chromedp.RunResponse(ctx, chromedp.Navigate(s.url+"/"))
			if err == nil {
				err = chromedp.Do(ctx,
					chromedp.SendKeys(chromedp.CSS(`input[name="username"]`), "test-user2"),
					chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), "verysecure"),
					chromedp.Submit(chromedp.CSS(`input[name="password"]`)),
					chromedp.WaitVisible(chromedp.CSS("pre"))) // Chromium shows plain text so
			}
			var page string
			if err == nil {
				page, err = chromedp.Run(ctx, chromedp.TextContent(chromedp.CSS("pre")))
			}
			if err != nil || !strings.HasSuffix(strings.TrimSpace(page), " id2") {
				t.Fatalf("%v: %q", err, page)
			}
		})
	}
}

func newChromium(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
		}
	}
	if path == "" {
		t.Fatal("no Chromium: ./test installs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.NoFirstRun,
		chromedp.DisableGPU, chromedp.Flag("headless", "new"), chromedp.Flag("disable-dev-shm-usage", true))
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx)
	t.Cleanup(func() { // wait until the browser has ended, because it writes to the directory
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("stopping the browser: %v", err)
		}
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("the browser does not start: %v", err)
	}
	return ctx
}
