// Package demo is a small application with sessions, made to be read, run and copied from.
//
// To curl it is a counter, to a browser a page with two races to try:
//
//   - fields.go declares what a session holds;
//   - visit.go is the counter, and page.go its page;
//   - lab.go are the handlers that race with each other.
package demo

import (
	"log/slog"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// New returns the application, with its sessions in store. The zero Config will do; its Logger gets the application's lines, too,
// each with the handle of the session that it is about.
func New(store driver.Store, cfg session.Config) (http.Handler, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.Logger = slog.New(session.LogHandler(cfg.Logger.Handler()))
	sessions, err := session.New(store, cfg)
	if err != nil {
		return nil, err
	}

	a := &app{log: cfg.Logger}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", session.HandlerFunc(a.visit))
	mux.Handle("GET /session", http.HandlerFunc(a.show))
	mux.Handle("POST /lab/add", session.HandlerFunc(a.add))
	mux.Handle("POST /lab/slow", session.HandlerFunc(a.slow))
	mux.Handle("POST /sign-out", session.HandlerFunc(a.signOut))
	mux.Handle("GET /assets/", assets())
	return secured(sessions.Handler(mux)), nil
}

type app struct {
	log *slog.Logger
}

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
