// Package demo is a small application with sessions. You can read it, run it and copy from it.
//
// For curl, the application is a counter. For a browser, it is a page with two races to try and a
// sign-in. The files:
//
//   - fields.go declares the fields of a session;
//   - visit.go is the counter, and page.go renders the page;
//   - lab.go has the handlers that race with each other;
//   - signin.go signs a user in;
//   - devices.go lists the devices on which a user is signed in, and signs them out.
package demo

import (
	"log/slog"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// New returns the application, which stores its sessions in store.
//
// The zero Config is enough: curl can then post without a CSRF token. If cfg or its policy turns
// CSRF on, the forms and the script of the page send the token of the session. Curl finds it at
// /session.
//
// The log lines of the application go to cfg.Logger, each with the handle of its session. New sets
// MaxPerUser and KeepFields itself.
func New(store driver.Store, cfg session.Config) (http.Handler, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.Logger = slog.New(session.LogHandler(cfg.Logger.Handler()))
	cfg.MaxPerUser = maxDevices // a further sign-in ends the oldest session
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
	mux.Handle("POST /devices/{handle}/sign-out", forUser(a.signOutOne))
	mux.Handle("POST /devices/others/sign-out", forUser(a.signOutOthers))
	mux.Handle("POST /devices/all/sign-out", forUser(a.signOutAll))
	mux.Handle("GET /assets/", assets())
	return withSecurityHeaders(sessions.Handler(mux)), nil
}

type app struct {
	sessions *session.Manager
	log      *slog.Logger
	csrf     bool // forms and scripts must send a CSRF token
}

// maxDevices is how many devices one user can be signed in on at the same time.
const maxDevices = 5

// withSecurityHeaders sets the security headers of every response. The page loads nothing from
// other sites, and contains no inline script or style.
func withSecurityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; "+
			"img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin") // "no-referrer" would give forms the origin "null"
		next.ServeHTTP(w, r)
	})
}
