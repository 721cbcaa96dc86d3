package demo_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestCookieOfASubresource: what a page of another site loads from here sets no cookie, and so begins no session in the browser; what a page
// of the same site loads does, and so does a link. Who comes back from a sign-in elsewhere has to come by one, or be redirected.
func TestCookieOfASubresource(t *testing.T) {
	a := newApp(t)
	server := httptest.NewServer(a.handler)
	t.Cleanup(server.Close)
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/link" {
			fmt.Fprintf(w, `<a href="%s/">here</a>`, server.URL)
		} else {
			fmt.Fprintf(w, `<img src="%s/">`, server.URL) // which answers with text and a cookie
		}
	}))
	t.Cleanup(pages.Close)
	elsewhere := strings.Replace(pages.URL, "127.0.0.1", "localhost", 1) // hosts make a site, ports do not

	for _, tt := range []struct {
		name, page string
		link       bool
		cookie     bool
	}{
		{"loaded by another site", elsewhere + "/image", false, false},
		{"loaded by the same site", pages.URL + "/image", false, true},
		{"a link of another site", elsewhere + "/link", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := browser(t)
			before := strings.Count(a.log.String(), "msg=visit")
			do(t, ctx, chromedp.Navigate(tt.page))
			if tt.link {
				click(t, ctx, "a")
			}
			if visits := strings.Count(a.log.String(), "msg=visit") - before; visits != 1 {
				t.Fatalf("%d visits", visits)
			}
			do(t, ctx, chromedp.Navigate(server.URL+"/session"))
			got := evaluate[string](t, ctx, `(() => { const x = new XMLHttpRequest(); x.open("GET", "/session", false); x.send(); return x.responseText; })()`)
			if strings.Contains(got, `"handle":""`) == tt.cookie {
				t.Errorf("/session answers %s, want a session: %v", got, tt.cookie)
			}
		})
	}
}
