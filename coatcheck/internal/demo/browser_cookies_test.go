package demo_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestCrossSiteSubresourceSetsNoCookie checks when a browser stores the session cookie. A resource
// that a page of another site loads from the demo sets no cookie. A resource of a page of the same
// site does, and so does following a link. A sign-in at another site must therefore return by a
// link or a redirect.
func TestCrossSiteSubresourceSetsNoCookie(t *testing.T) {
	t.Parallel()
	a := mustNewApp(t)
	server := httptest.NewServer(a.handler)
	t.Cleanup(server.Close)
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/link" {
			fmt.Fprintf(w, `<a href="%s/">here</a>`, server.URL)
		} else {
			fmt.Fprintf(w, `<img src="%s/">`, server.URL) // the response is text and a cookie
		}
	}))
	t.Cleanup(pages.Close)
	// A site is a host, whatever the port.
	elsewhere := strings.Replace(pages.URL, "127.0.0.1", "localhost", 1)

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
			ctx := mustOpenBrowser(t)
			before := strings.Count(a.log.String(), "msg=visit")
			mustDo(t, ctx, chromedp.Navigate(tt.page))
			if tt.link {
				mustClick(t, ctx, "a")
			}
			if visits := strings.Count(a.log.String(), "msg=visit") - before; visits != 1 {
				t.Fatalf("the demo counted %d visits, want 1", visits)
			}
			mustDo(t, ctx, chromedp.Navigate(server.URL+"/session"))
			got := mustEvaluate[string](t, ctx, `(() => {
				const x = new XMLHttpRequest();
				x.open("GET", "/session", false);
				x.send();
				return x.responseText;
			})()`)
			if strings.Contains(got, `"handle":""`) == tt.cookie {
				t.Errorf("GET /session returns %s, want a session: %v", got, tt.cookie)
			}
		})
	}
}
