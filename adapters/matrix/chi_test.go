package matrix_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

// startChi serves the app by chi, with chi's own middleware.
func startChi(t *testing.T, a *app) string {
	r := chi.NewRouter()
	mw := netMiddleware{
		log:      middleware.RequestLogger(chiLog(a.logged)),
		recovery: middleware.Recoverer,
		compress: middleware.Compress(5),
	}
	r.Use(func(next http.Handler) http.Handler { return wrap(next, a, mw) })
	r.With(a.route.Handler).Handle("/", netHandler(a.handle))
	r.Get("/static", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, fileName) })
	return startHTTP(t, r)
}

// chiLog is a formatter of chi's request logger.
type chiLog func(status int)

func (f chiLog) NewLogEntry(*http.Request) middleware.LogEntry { return f }
func (f chiLog) Panic(any, []byte)                             {}

func (f chiLog) Write(status, _ int, _ http.Header, _ time.Duration, _ any) { f(status) }
