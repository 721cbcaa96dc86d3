// Package page is the frame of the tour: the layout of its pages, their style, and what several
// stops use.
package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/coatcheck-go/session"
)

// Stop is one stop of the tour: a page that shows something.
type Stop struct {
	Path  string // of the page
	Name  string // in the navigation
	Shows string // what the page shows, in two sentences
	Files fs.FS  // the template of the page, and its assets
	Code  Source // the Go code that the page shows

	Style, Script string // names of assets in Files; "" if the page has none
}

// Site is what all stops use.
type Site struct {
	Stops    []Stop
	Sessions *session.Manager
	Log      *slog.Logger

	CSRF    bool // forms and scripts must send a CSRF token
	NoUsers bool // the store does not support users, so nobody can sign in

	Stopping context.Context // done when the server stops
	Running  sync.WaitGroup  // the responses that stay open
}

var (
	//go:embed layout.html
	layoutHTML string
	layout     = template.Must(template.New("layout").Parse(layoutHTML))

	//go:embed assets
	shared embed.FS
)

// Parse returns the template of a stop's page, which defines "main". It panics if the template is
// wrong.
func Parse(files fs.FS, name string) *template.Template {
	return template.Must(template.Must(layout.Clone()).ParseFS(files, name))
}

// Render responds with the page of a stop. The template gets the session as [View] has it, the
// site, and data as .Data.
func (site *Site) Render(w http.ResponseWriter, r *http.Request, s *session.Session, t *template.Template, data any) error {
	v, err := site.View(r.Context(), s)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(site.Stops, func(stop Stop) bool { return stop.Path == r.URL.Path })
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		View
		*Site
		Stop Stop
		URL  string
		Data any
	}{v, site, site.Stops[at], "http://" + r.Host, data})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err = b.WriteTo(w)
	return err
}

// Open returns a handler for responses that stay open, and end when the server stops.
func (site *Site) Open(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site.Running.Add(1)
		defer site.Running.Done()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(site.Stopping, cancel)()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// Assets serves the style sheets, the scripts and the icon of the tour.
func (site *Site) Assets() (http.Handler, error) {
	assets := map[string][]byte{}
	inAssets, err := fs.Sub(shared, "assets")
	if err != nil {
		return nil, err
	}
	sources := []fs.FS{inAssets}
	for _, stop := range site.Stops {
		sources = append(sources, stop.Files)
	}
	for _, files := range sources {
		for _, pattern := range []string{"*.css", "*.js", "*.svg"} {
			names, err := fs.Glob(files, pattern)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if assets[name], err = fs.ReadFile(files, name); err != nil {
					return nil, err
				}
			}
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		content, ok := assets[name]
		if !ok || r.URL.Path != "/assets/"+name {
			http.NotFound(w, r)
			return
		}
		sum := sha256.Sum256(content)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	}), nil
}
