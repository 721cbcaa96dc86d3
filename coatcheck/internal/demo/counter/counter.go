// Package counter is the first stop of the tour: it counts the visits of each visitor.
package counter

import (
	"embed"
	"fmt"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/page"
)

var (
	//go:embed *.html *.js
	files embed.FS
	html  = page.Parse(files, "counter.html")

	//go:embed counter.go
	source string
)

// Stop is the counter in the tour.
var Stop = page.Stop{
	Path: "/", Name: "Counter",
	Shows: "Each visit adds 1 to a field of your session. The cookie has only a random token, and the store has the rest.",
	Files: files, Script: "counter.js", Code: page.Code("counter/counter.go", source, "visit"),
}

type counter struct{ *page.Site }

// Mount adds the routes of the stop to mux.
func Mount(mux *http.ServeMux, site *page.Site) {
	mux.Handle("GET /{$}", session.HandlerFunc((&counter{site}).visit))
}

// visit counts a visit. Browsers get the page, other clients get plain text.
func (c *counter) visit(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	page.Count.Add(s, 1)
	// Without this Commit, the change would be committed before the first byte of the response.
	// With it, Get returns the committed count, so that concurrent visits get different
	// numbers.
	if err := s.Commit(r.Context()); err != nil {
		return err
	}
	n := page.Count.Get(s) - 1
	c.Log.InfoContext(r.Context(), "visit", "count", n)

	w.Header().Add("Vary", "Accept")
	if page.Accepts(r, "text/html") {
		return c.Render(w, r, s, html, n)
	}
	return page.WriteText(w, fmt.Sprintf("Hello World #%d", n))
}
