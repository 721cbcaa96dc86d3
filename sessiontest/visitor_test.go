package sessiontest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/policy"
	"github.com/coatcheck-go/session/sessiontest"
)

const visits session.Counter = "visits"

// visit counts a visit and prints the count and the user.
func visit(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	visits.Add(s, 1)
	_, err := fmt.Fprint(w, visits.Get(s), " ", s.User())
	return err
}

// key returns a key of 32 bytes b.
func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// configs are one Config of each kind that a Visitor must work with.
var configs = map[string]session.Config{
	"default":         {},
	"insecure":        {Cookie: session.Cookie{Insecure: true}},
	"name":            {Cookie: session.Cookie{Name: "__Host-id"}},
	"domain and path": {Cookie: session.Cookie{Name: "__Secure-id", Domain: "shop.test", Path: "/app/"}},
	"persistent":      {Cookie: session.Cookie{Persistent: true}},
	"strict":          {Cookie: session.Cookie{SameSite: http.SameSiteStrictMode}},
	"sealed":          {Keys: [][]byte{key(1)}, UserKey: key(2), Seal: true},
	"bearer":          {Bearer: true},
	"csrf":            {CSRF: true},
	"policy":          {Policy: policy.AAL2},
	"rotation":        {RotateEvery: time.Minute},
}

// TestVisitorWorksWithEachConfig makes requests of a known user and of an anonymous visitor,
// without a network, over HTTP and over HTTPS.
func TestVisitorWorksWithEachConfig(t *testing.T) {
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := mustNewManager(memstore.New(), cfg)
			h := m.Handler(session.HandlerFunc(visit))
			plain, encrypted := httptest.NewServer(h), httptest.NewTLSServer(h)
			defer plain.Close()
			defer encrypted.Close()
			visitors := map[string]*sessiontest.Visitor{
				"":    sessiontest.NewVisitor(t, m),
				"ada": sessiontest.SignedIn(t, m, "ada"),
			}
			if cfg.Bearer {
				visitors["bob"] = sessiontest.Bearer(t, m, "bob")
			}
			for user, v := range visitors {
				v.Change(func(s *session.Session) { visits.Add(s, 40) })
				path := m.Config().Cookie.Path + "page"
				mustEqual(t, "body", v.Do(h, httptest.NewRequest("POST", path, nil)).Body.String(), "41 "+user)
				mustEqual(t, "over HTTP", mustPost(t, v.Client(plain), plain.URL+path), "42 "+user)
				mustEqual(t, "over HTTPS", mustPost(t, v.Client(encrypted), encrypted.URL+path), "43 "+user)
				mustEqual(t, "user", v.Session().User(), user)
				mustEqual(t, "visits", visits.Get(v.Session()), 43)
			}
		})
	}
}

func mustEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// mustPost posts nothing and returns the body of the response.
func mustPost(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	res, err := c.Post(url, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDoKeepsTheRequestAsItWas: a request may be used again, also after the visitor got another
// cookie and other CSRF tokens.
func TestDoKeepsTheRequestAsItWas(t *testing.T) {
	m := mustNewManager(memstore.New(), session.Config{CSRF: true})
	h := newShop(m)
	v := sessiontest.NewVisitor(t, m).Change(func(s *session.Session) { cart.Add(s, "pear", 1) })
	r := httptest.NewRequest("POST", "/login?user=ada", nil)
	for range 3 {
		if w := v.Do(h, r); w.Code != 200 || len(r.Header) != 0 {
			t.Errorf("status %d, the request has %v", w.Code, r.Header)
		}
	}
	mustEqual(t, "user", v.Session().User(), "ada")
}

// TestPrepareAndReceive: with them, any way to serve a request does what Do does. Prepare replaces
// what it added before.
func TestPrepareAndReceive(t *testing.T) {
	h := sessions.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		lang, _ := r.Cookie("lang")
		http.SetCookie(w, &http.Cookie{Name: "lang", Value: "de"})
		visits.Add(s, 1)
		_, err := fmt.Fprintf(w, "%d %v, %s", visits.Get(s), lang, r.Header.Get("Cookie"))
		return err
	}))
	v := sessiontest.NewVisitor(t, sessions)
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "theme", Value: "dark"})
	for _, want := range []string{"1 , theme=dark", "2 lang=de, theme=dark; ", "3 lang=de, theme=dark; "} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, v.Prepare(r))
		v.Receive(w.Result())
		if !strings.HasPrefix(w.Body.String(), want) {
			t.Errorf("%q, want %q first", w.Body, want)
		}
	}
	mustEqual(t, "cookies", len(r.Cookies()), 3)
}

// TestClientFollowsRedirects: each hop on the server carries the cookie; another host gets nothing.
func TestClientFollowsRedirects(t *testing.T) {
	m := mustNewManager(memstore.New(), session.Config{Bearer: true})
	got := make(chan http.Header, 1)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	defer other.Close()
	mux := http.NewServeMux()
	mux.Handle("/count", session.HandlerFunc(visit))
	mux.Handle("/local", http.RedirectHandler("/count", http.StatusSeeOther))
	mux.Handle("/away", http.RedirectHandler(other.URL, http.StatusSeeOther))
	server := httptest.NewServer(m.Handler(mux))
	defer server.Close()
	for _, v := range []*sessiontest.Visitor{sessiontest.SignedIn(t, m, "ada"), sessiontest.Bearer(t, m, "ada")} {
		mustEqual(t, "body", mustPost(t, v.Client(server), server.URL+"/local"), "1 ada")
		mustPost(t, v.Client(server), server.URL+"/away")
		if h := <-got; h.Get("Cookie") != "" || h.Get("Authorization") != "" {
			t.Errorf("another host gets %v", h)
		}
	}
}

// TestClientKeepsCookies: those of responses to a client are the visitor's.
func TestClientKeepsCookies(t *testing.T) {
	server := httptest.NewServer(sessions.Handler(session.HandlerFunc(visit)))
	defer server.Close()
	v := sessiontest.NewVisitor(t, sessions)
	for _, want := range []string{"1 ", "2 "} {
		mustEqual(t, "body", mustPost(t, v.Client(server), server.URL), want)
	}
	mustEqual(t, "visits", visits.Get(v.Session()), 2)
}

// TestVisitorIsSafeForConcurrentUse: tabs of one browser lose no count.
func TestVisitorIsSafeForConcurrentUse(t *testing.T) {
	m := mustNewManager(memstore.New(), session.Config{CSRF: true, RotateEvery: time.Minute})
	h := m.Handler(session.HandlerFunc(visit))
	server := httptest.NewServer(h)
	defer server.Close()
	v := sessiontest.SignedIn(t, m, "ada")
	var tabs sync.WaitGroup
	for range 8 {
		tabs.Go(func() {
			client := v.Client(server)
			for range 10 {
				v.Do(h, httptest.NewRequest("POST", "/", nil))
				if res, err := client.Post(server.URL, "", nil); err == nil {
					res.Body.Close()
				}
			}
		})
	}
	tabs.Wait()
	mustEqual(t, "visits", visits.Get(v.Session()), 160)
}

// TestVisitorWorksInCleanup: there the test's own context is done.
func TestVisitorWorksInCleanup(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	faults.Set(func(ctx context.Context, _ sessiontest.Op, call func() error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return call()
	})
	m := mustNewManager(store, session.Config{})
	v := sessiontest.SignedIn(t, m, "ada")
	t.Cleanup(func() { mustEqual(t, "user", v.Session().User(), "ada") })
}

// TestSessionChangesNothing: what is set in it is not stored, and reading does not count as a use.
func TestSessionChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a slow sign-in reads the session again
		memory := memstore.New()
		defer memory.Close()
		store, faults := sessiontest.Faulty(memory)
		m := mustNewManager(store, session.Config{})
		v := sessiontest.SignedIn(t, m, "ada")
		before := faults.Calls()
		visits.Add(v.Session(), 1)
		mustEqual(t, "visits", visits.Get(v.Session()), 0)
		mustEqual(t, "calls", faults.Calls()-before, 2)
		mustEqual(t, "reads", faults.Calls(sessiontest.OpLoad), 2)
		mustEqual(t, "user of another visitor", sessiontest.NewVisitor(t, m).Session().User(), "")
	})
}

// TestVisitorBeginsNoSession: with Config.CSRF, a visitor whose session ended asks for no new one.
func TestVisitorBeginsNoSession(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	m := mustNewManager(store, session.Config{CSRF: true})
	v := sessiontest.SignedIn(t, m, "ada")
	mustEqual(t, "status", v.Do(newShop(m), httptest.NewRequest("POST", "/logout", nil)).Code, 200)
	v.Change(func(*session.Session) {})
	mustEqual(t, "new sessions", faults.Calls(sessiontest.OpCreate), 0)
}

// TestCookieIn: what each kind of response does with the cookie, over each of its two names.
func TestCookieIn(t *testing.T) {
	v := sessiontest.NewVisitor(t, sessions)
	for _, step := range []struct {
		method, target string
		want           sessiontest.CookieChange
	}{
		{"GET", "/offers", sessiontest.CookieUnchanged},
		{"POST", "/cart?item=apple", sessiontest.CookieSet},
		{"POST", "/cart?item=apple", sessiontest.CookieUnchanged},
		{"POST", "/login?user=ada", sessiontest.CookieSet}, // and the anonymous one is deleted
		{"POST", "/logout", sessiontest.CookieDeleted},
		{"POST", "/logout", sessiontest.CookieUnchanged},
	} {
		w := v.Do(shop, httptest.NewRequest(step.method, step.target, nil))
		mustEqual(t, step.target, sessiontest.CookieIn(sessions, w.Result()), step.want)
	}
	foreign := &http.Response{Header: http.Header{"Set-Cookie": {"session=x"}}}
	mustEqual(t, "a cookie of another name", sessiontest.CookieIn(sessions, foreign), sessiontest.CookieUnchanged)
}

// TestForeignSiteHasNoToken: a page of another site knows no CSRF token, also where its origin is
// trusted.
func TestForeignSiteHasNoToken(t *testing.T) {
	trusting := http.NewCrossOriginProtection()
	trusting.AddInsecureBypassPattern("/")
	m := mustNewManager(memstore.New(), session.Config{CSRF: true, CrossOrigin: trusting})
	v := sessiontest.SignedIn(t, m, "ada")
	for r, want := range map[*http.Request]int{
		httptest.NewRequest("POST", "/cart?item=apple", nil):                        303,
		sessiontest.CrossSite(httptest.NewRequest("POST", "/cart?item=apple", nil)): 403,
	} {
		mustEqual(t, fmt.Sprint("status with ", r.Header), v.Do(newShop(m), r).Code, want)
	}
}
