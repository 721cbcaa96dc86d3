package matrix_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/coatcheck-go/session"
)

// startNetHTTP serves the app without a framework. Logger, recovery and compression are what
// applications write themselves.
func startNetHTTP(t *testing.T, a *app) string {
	mux := http.NewServeMux()
	mux.Handle("/{$}", a.route.Handler(netHandler(a.handle)))
	mux.HandleFunc("/static", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, fileName) })
	return startHTTP(t, wrap(mux, a, netMiddleware{
		log: func(next http.Handler) http.Handler { return netLogger(next, a.logged) }, recovery: netRecovery, compress: netGzip,
	}))
}

// netMiddleware has the middleware of an app on net/http.
type netMiddleware struct {
	log, recovery, compress func(http.Handler) http.Handler
}

// wrap puts h into the middleware of the app.
func wrap(h http.Handler, a *app, mw netMiddleware) http.Handler {
	add := func(is, at place, f func(http.Handler) http.Handler) {
		if is == at {
			h = f(h)
		}
	}
	add(a.logger, inside, mw.log)
	add(a.recovery, inside, mw.recovery)
	add(a.compression, inside, mw.compress)
	for _, m := range slices.Backward(a.managers) {
		h = m.Handler(h)
	}
	add(a.compression, outside, mw.compress)
	add(a.recovery, outside, mw.recovery)
	add(a.logger, outside, mw.log)
	return h
}

// netHandler answers an error as session.HandlerFunc does.
func netHandler(f handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f(&netExchange{w, r}); err != nil {
			session.Error(w, r, err)
		}
	})
}

type netExchange struct {
	w http.ResponseWriter
	r *http.Request
}

func (x *netExchange) Context() context.Context           { return x.r.Context() }
func (x *netExchange) Session() (*session.Session, error) { return session.From(x.r.Context()) }

func (x *netExchange) Text(status int, text string) error {
	x.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	x.w.WriteHeader(status)
	_, err := io.WriteString(x.w, text)
	return err
}

func (x *netExchange) Empty(status int) error { x.w.WriteHeader(status); return nil }

func (x *netExchange) Redirect(to string) error {
	http.Redirect(x.w, x.r, to, http.StatusSeeOther)
	return nil
}

func (x *netExchange) Stream(f func(send func(string) error) error) error {
	return streamHTTP(x.w, f)
}

// streamHTTP is Stream for frameworks on net/http.
func streamHTTP(w http.ResponseWriter, f func(send func(string) error) error) error {
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	return f(func(text string) error {
		_, err := io.WriteString(w, text)
		return errors.Join(err, out.Flush())
	})
}

func (x *netExchange) Fail(status int) error { return statusError(status) }

func (x *netExchange) Upgrade(talk func(io.ReadWriter)) error { return hijack(x.w, talk) }

// statusError is an application's error that knows its status.
type statusError int

func (e statusError) Error() string   { return fmt.Sprintf("secret cause of %d", int(e)) }
func (e statusError) StatusCode() int { return int(e) }

// netLogger records the status of the response.
func netLogger(next http.Handler, logged func(int)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &statusRecorder{ResponseWriter: w, status: 200}
		defer func() { logged(rec.status) }()
		next.ServeHTTP(rec, r)
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// netRecovery answers 500 after a panic.
func netRecovery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				http.Error(w, "Internal Server Error", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// netGzip compresses all that has a body.
func netGzip(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		z := &gzipWriter{ResponseWriter: w}
		defer z.close()
		next.ServeHTTP(z, r)
	})
}

type gzipWriter struct {
	http.ResponseWriter
	z *gzip.Writer
}

func (g *gzipWriter) WriteHeader(status int) {
	if g.z == nil && status != http.StatusNoContent {
		g.Header().Set("Content-Encoding", "gzip")
		g.Header().Del("Content-Length")
		g.z = gzip.NewWriter(g.ResponseWriter)
	}
	g.ResponseWriter.WriteHeader(status)
}

func (g *gzipWriter) Write(b []byte) (int, error) {
	if g.z == nil {
		g.WriteHeader(http.StatusOK)
	}
	return g.z.Write(b)
}

func (g *gzipWriter) close() {
	if g.z != nil {
		g.z.Close()
	}
}

func (g *gzipWriter) Unwrap() http.ResponseWriter { return g.ResponseWriter }
