package fibersession

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v3"
	"github.com/valyala/fasthttp"
)

// mustRead makes fasthttp read a request, into the buffers of an earlier one.
func mustRead(t *testing.T, into *fasthttp.RequestCtx, raw string) {
	t.Helper()
	if err := into.Request.Read(bufio.NewReader(strings.NewReader(raw))); err != nil {
		t.Fatal(err)
	}
}

// overwriting makes another request of the same length.
var overwriting = strings.NewReplacer("example", "EXAMPLE", "a.", "z.", "/a", "/Z", "/b", "/Y", "cross-site", "none------", "https", "xxxxx", "null", "xxxx")

// TestDescriptionIsThatOfNetHTTP: the Manager reads the same as under net/http, also when fasthttp
// has overwritten its buffers.
func TestDescriptionIsThatOfNetHTTP(t *testing.T) {
	apps := []*fiber.App{fiber.New(), fiber.New(fiber.Config{DisableHeaderNormalizing: true})}
	for i, raw := range []string{
		"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"POST /a/b?c=d%20 HTTP/1.1\r\nHost: a.example:8080\r\norigin: https://b.example\r\nSEC-FETCH-SITE: cross-site\r\nContent-Length: 0\r\n\r\n",
		"DELETE /a%2Fb/%61 HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"PUT //b.example/..//a HTTP/1.1\r\nHost: a.example\r\nOrigin: null\r\nContent-Length: 0\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example\r\nCookie: a=1; __Host-session=\"abc\"\r\ncookie: b=2\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\nUpgrade: websocket\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example\r\nX-CSRF-Token: abc\r\nContent-Type: a/b\r\nOrigin: https://a.example\r\nOrigin: https://c.example\r\n\r\n",
	} {
		want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			t.Fatal(err)
		}
		app, fctx := apps[i%2], &fasthttp.RequestCtx{}
		if app.Config().DisableHeaderNormalizing { // as Fiber's server does
			fctx.Request.Header.DisableNormalizing()
		}
		mustRead(t, fctx, raw)
		c := app.AcquireCtx(fctx)
		d := describe(context.Background(), c, true)
		got := summary(&d.Request, kept[:], passing[:])
		if want := summary(want, kept[:], passing[:]); got != want {
			t.Errorf("%q:\n%s\nwant\n%s", raw, got, want)
		}
		d.forget()
		before := summary(&d.Request, kept[:], nil)
		for range 3 { // the buffers are as large as before
			mustRead(t, fctx, overwriting.Replace(raw))
			_ = c.Host()
		}
		if after := summary(&d.Request, kept[:], nil); after != before {
			t.Errorf("%q after the next request:\n%s\nwant\n%s", raw, after, before)
		}
		for _, name := range passing {
			if d.Header[name] != nil {
				t.Errorf("%s is kept", name)
			}
		}
		app.ReleaseCtx(c)
	}
}

// summary is what the Manager reads: the first value of most fields, all tokens of Cookie and
// Authorization.
func summary(r *http.Request, fields ...[]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q %q %q", r.Method, r.Host, r.URL.Path, r.URL.RawPath)
	for _, names := range fields {
		for _, name := range names {
			switch name {
			case "Cookie":
				fmt.Fprintf(&b, "\n%s: %q", name, strings.ReplaceAll(strings.Join(r.Header[name], "; "), `"`, ""))
			case "Authorization":
				fmt.Fprintf(&b, "\n%s: %q", name, r.Header[name])
			default:
				fmt.Fprintf(&b, "\n%s: %q", name, r.Header.Get(name))
			}
		}
	}
	return b.String()
}

// TestUnparsableTargetIsAPath: Fiber routes what net/http refuses.
func TestUnparsableTargetIsAPath(t *testing.T) {
	if u := parse("/%zz?x"); u.Path != "/%zz" || u.RawQuery != "" {
		t.Errorf("%#v", u)
	}
}

// TestContextOfAnOuterMiddlewareStays: its values are found through the session's context.
func TestContextOfAnOuterMiddlewareStays(t *testing.T) {
	type key struct{}
	fctx := &fasthttp.RequestCtx{}
	mustRead(t, fctx, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
	app := fiber.New()
	c := app.AcquireCtx(fctx)
	defer app.ReleaseCtx(c)
	d := describe(context.WithValue(t.Context(), key{}, "x"), c, false)
	if d.Context().Value(key{}) != "x" || d.Host != "a.example" {
		t.Errorf("%v", d.Context())
	}
}

func BenchmarkDescribe(b *testing.B) {
	fctx := &fasthttp.RequestCtx{}
	raw := "GET /a?b HTTP/1.1\r\nHost: a.example\r\nCookie: a=b\r\nSec-Fetch-Site: none\r\n\r\n"
	if err := fctx.Request.Read(bufio.NewReader(bytes.NewReader([]byte(raw)))); err != nil {
		b.Fatal(err)
	}
	app := fiber.New()
	c := app.AcquireCtx(fctx)
	defer app.ReleaseCtx(c)
	b.ReportAllocs()
	for b.Loop() {
		describe(context.Background(), c, false)
	}
}
