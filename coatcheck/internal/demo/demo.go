// Package demo is a small application with sessions, made to be read, run and copied from.
//
// To curl it is a counter, to a browser a page with two races to try, and with a sign-in:
//
//   - fields.go declares what a session holds;
//   - visit.go is the counter, and page.go its page;
//   - lab.go are the handlers that race with each other;
//   - signin.go signs in, and devices.go lists where somebody is signed in, and signs them out.
package demo

import (
	"log/slog"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// New returns the application, with its sessions in store. The zero Config will do: a plain curl may then post. With CSRF, or a preset that
// turns it on, the page's forms and script send the session's token, and curl finds it at /session. The Logger gets the application's
// lines, too, each with the handle of the session that it is about. How many sessions a user may have, and what comes along at sign-in, is
// the application's own.
func New(store driver.Store, cfg session.Config) (http.Handler, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.Logger = slog.New(session.LogHandler(cfg.Logger.Handler()))
	cfg.MaxPerUser = maxDevices // one more ends the oldest
	cfg.KeepFields = []string{string(count)}
	sessions, err := session.New(store, cfg)
	if err != nil {
		return nil, err
	}

	a := &app{sessions: sessions, log: cfg.Logger, csrf: sessions.Config().CSRF}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", session.HandlerFunc(a.visit))
	mux.Handle("GET /session", http.HandlerFunc(a.show))
	mux.Handle("POST /lab/add", session.HandlerFunc(a.add))
	mux.Handle("POST /lab/slow", session.HandlerFunc(a.slow))
	mux.Handle("POST /sign-in", session.HandlerFunc(a.signIn))
	mux.Handle("POST /sign-out", session.HandlerFunc(a.signOut))
	mux.Handle("GET /devices", signedIn.Handler(session.HandlerFunc(a.devices)))
	mux.Handle("POST /devices/{handle}/sign-out", own(a.signOutOne))
	mux.Handle("POST /devices/others/sign-out", own(a.signOutOthers))
	mux.Handle("POST /devices/all/sign-out", own(a.signOutAll))
	mux.Handle("GET /assets/", assets())
	return secured(sessions.Handler(mux)), nil
}

type app struct {
	sessions *session.Manager
	log      *slog.Logger
	csrf     bool // forms and scripts have to send a token
}

const maxDevices = 5 // where one user can be signed in at the same time

// secured sets what every response should have. The page needs nothing from elsewhere, and no script or style within it.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin") // with "no-referrer", forms would come from the origin "null"
		next.ServeHTTP(w, r)
	})
}
