// Package demo is a small site that shows what sessions can do. You can run it, read it, and copy
// from it. In a browser, it is a tour of a few pages. With curl, it is a counter. Some pages have
// commands for curl.
//
// Each stop of the tour is a package:
//
//   - counter counts visits;
//   - lab has handlers that race with each other;
//   - account signs users in, lists the devices on which a user is signed in, and signs them out;
//   - shop has a cart that several tabs and devices share;
//   - game is for players in several browsers.
//
// Package page is the frame of the pages.
package demo

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/account"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/counter"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/game"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/lab"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/page"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/shop"
	"github.com/coatcheck-go/session/driver"
)

// New returns the site, which stores its sessions in store.
//
// The zero Config is enough: curl can then post without a CSRF token. If cfg or its policy turns
// CSRF on, the forms and the scripts of the pages send the token of the session. Curl finds it at
// /session.
//
// When ctx is done, the responses that stay open end, so that the server can stop. wait waits for
// them: call it before you close the store.
//
// The log lines of the site go to cfg.Logger, each with the handle of its session. New sets
// MaxPerUser, KeepFields and UserFields itself, and WatchTimeout if it is 0.
func New(ctx context.Context, store driver.Store, cfg session.Config) (h http.Handler, wait func(), err error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.Logger = slog.New(session.LogHandler(cfg.Logger.Handler()))
	cfg.MaxPerUser = account.MaxDevices // a further sign-in ends the oldest session
	if cfg.WatchTimeout == 0 {
		cfg.WatchTimeout = 3 * time.Second // a page soon says that the store does not answer
	}
	cfg.KeepFields = append([]string{string(page.Count)}, game.Keep...)
	if _, ok := store.(driver.Joiner); ok {
		cfg.UserFields = shop.UserFields
	}
	sessions, err := session.New(store, cfg)
	if err != nil {
		return nil, nil, err
	}

	_, users := store.(driver.UserStore)
	site := &page.Site{
		Stops:    []page.Stop{counter.Stop, lab.Stop, account.Stop, shop.Stop, game.Stop},
		Sessions: sessions, Log: cfg.Logger,
		CSRF: sessions.Config().CSRF, NoUsers: !users, Stopping: ctx,
	}
	mux := http.NewServeMux()
	counter.Mount(mux, site)
	lab.Mount(mux, site)
	account.Mount(mux, site)
	shop.Mount(mux, site)
	game.Mount(mux, site)
	assets, err := site.Assets()
	if err != nil {
		return nil, nil, err
	}
	mux.Handle("GET /assets/", assets)
	return withSecurityHeaders(sessions.Handler(mux)), site.Running.Wait, nil
}

// withSecurityHeaders sets the security headers of every response. The pages load nothing from
// other sites, and contain no inline script or style.
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
