package demo

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck-go/session"
)

var (
	//go:embed page.html
	pageHTML string
	page     = template.Must(template.New("page").Parse(pageHTML))

	//go:embed assets
	files embed.FS
)

// view is the part of a session that the page shows. The token is not in it: the page cannot read
// it.
type view struct {
	Handle   string     `json:"handle"` // "" if there is no session
	Created  time.Time  `json:"created,omitzero"`
	Seen     time.Time  `json:"seen,omitzero"`
	Idle     time.Time  `json:"idle,omitzero"`
	Deadline time.Time  `json:"deadline,omitzero"`
	User     string     `json:"user,omitempty"`
	Count    int64      `json:"count"`
	LastSlow *slowWrite `json:"lab.slow,omitempty"`
	CSRF     string     `json:"csrf_token,omitempty"` // to send with each post; may be ""
}

// viewOf returns the view of a session. It never creates a session.
func (a *app) viewOf(ctx context.Context, s *session.Session) (v view, err error) {
	i := s.Info()
	v = view{
		Handle: i.Handle, Created: i.Created, Seen: i.Seen, Idle: i.Expires, Deadline: i.Deadline,
		User: i.User, Count: count.Get(s),
	}
	if slow, ok, err := lastSlow.Lookup(s); ok && err == nil {
		v.LastSlow = &slow
	}
	if a.csrf && v.Handle != "" { // CSRFToken would create a session
		v.CSRF, err = s.CSRFToken(ctx)
	}
	return v, err
}

// page responds with the HTML page.
func (a *app) page(w http.ResponseWriter, r *http.Request, s *session.Session, visit int64) error {
	devices, err := a.devicesOf(r.Context(), s)
	noUsers := errors.Is(err, errors.ErrUnsupported)
	if err != nil && !noUsers {
		return err
	}
	message, _, err := notice.Take(r.Context(), s) // without a notice, no store access
	if err != nil {
		return err
	}
	v, err := a.viewOf(r.Context(), s)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	err = page.Execute(&b, struct {
		view
		Visit      int64
		URL        string
		Cells      [50]struct{}
		Notice     string
		Devices    []device
		MaxDevices int
		MaxName    int
		NoUsers    bool // the store does not support users, so nobody can sign in
	}{
		view: v, Visit: visit, URL: "http://" + r.Host,
		Notice: message, Devices: devices, MaxDevices: maxDevices, MaxName: maxName, NoUsers: noUsers,
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err = b.WriteTo(w)
	return err
}

// assets serves the style sheet, the script and the icon of the page.
func assets() http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") { // no directory listing
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-cache")
		server.ServeHTTP(w, r)
	})
}
