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

// view is what people may see of a session: the token is not in it, and the page could not read it.
type view struct {
	Handle   string     `json:"handle"` // "" if there is no session
	Created  time.Time  `json:"created,omitzero"`
	Seen     time.Time  `json:"seen,omitzero"`
	Idle     time.Time  `json:"idle,omitzero"`
	Deadline time.Time  `json:"deadline,omitzero"`
	User     string     `json:"user,omitempty"`
	Count    int64      `json:"count"`
	LastSlow *slowWrite `json:"lab.slow,omitempty"`
	CSRF     string     `json:"csrf_token,omitempty"` // to be sent with what changes something; "" if nobody asks for it
}

func (a *app) viewOf(ctx context.Context, s *session.Session) (v view, err error) {
	i := s.Info()
	v = view{Handle: i.Handle, Created: i.Created, Seen: i.Seen, Idle: i.Expires, Deadline: i.Deadline, User: i.User, Count: count.Get(s)}
	if slow, ok, err := lastSlow.Lookup(s); ok && err == nil {
		v.LastSlow = &slow
	}
	if a.csrf && v.Handle != "" { // looking makes no session
		v.CSRF, err = s.CSRFToken(ctx)
	}
	return v, err
}

func (a *app) page(w http.ResponseWriter, r *http.Request, s *session.Session, visit int64) error {
	devices, err := a.devicesOf(r.Context(), s)
	noUsers := errors.Is(err, errors.ErrUnsupported)
	if err != nil && !noUsers {
		return err
	}
	said, _, err := notice.Take(r.Context(), s) // costs nothing when there is none
	if err != nil {
		return err
	}
	seen, err := a.viewOf(r.Context(), s)
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
		NoUsers    bool // the store does not know users, so nobody can sign in
	}{
		view: seen, Visit: visit, URL: "http://" + r.Host,
		Notice: said, Devices: devices, MaxDevices: maxDevices, MaxName: maxName, NoUsers: noUsers,
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err = b.WriteTo(w)
	return err
}

// assets serves the page's style, script and icon.
func assets() http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") { // no list of files
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-cache")
		server.ServeHTTP(w, r)
	})
}
