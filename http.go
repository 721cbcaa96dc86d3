package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Handler is the middleware. Handlers inside it get their session with [From]. What they change is
// committed before the first byte of the response leaves. If the commit fails, the client gets the
// answer of Config.OnError, and what the handler writes is dropped.
//
// A handler that panics changes nothing but what it committed itself. A recovery middleware may
// stand outside this one or inside. Inside, the function that recovers must itself begin the
// response, with a status of 400 or more. Put an http.TimeoutHandler outside: inside, its answer is
// an ordinary response, which commits what the handler had changed.
//
// A change made after the header has left is committed when the handler returns. If that fails, the
// error is logged.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.Serve(w, r, next.ServeHTTP, nil)
	})
}

// Serve is [Manager.Handler] for one request, for adapters of web frameworks: it calls next with
// the writer and the request that carry the session. Unless it is nil, onError takes the place of
// Config.OnError for this request. Its writer is w, and what it writes there is the response.
// Afterwards, what next writes is dropped.
//
// If the handler of the framework fails, next calls [Session.Discard] before the response to the
// error.
func (m *Manager) Serve(w http.ResponseWriter, r *http.Request, next http.HandlerFunc,
	onError func(w http.ResponseWriter, r *http.Request, err error)) {
	if s, err := sessionOf(r.Context()); err == nil && s.m == m {
		next(w, r) // the middleware is nested: one session, one cookie
		return
	}
	x := &exchange{Context: r.Context()}
	x.session.begin(m, r.Header)
	x.writer = responseWriter{ResponseWriter: w, x: x}
	x.session.request, x.session.onError = r.WithContext(x), onError
	if err := x.check(r); err != nil {
		x.fail(err)
		return
	}
	returned := false
	defer func() {
		if !returned { // it panics, or exits
			x.unwind()
		}
		giveBack(r, x.session.request)
	}()
	next(&x.writer, x.session.request)
	x.finish()
	returned = true
}

// check refuses what another site has caused, and what lacks a CSRF token.
func (x *exchange) check(r *http.Request) error {
	s := &x.session
	if s.cred.inCookie() {
		if err := s.m.checkOrigin(asUnsafe(r)); err != nil {
			return err
		}
	}
	return x.checkCSRF(s.request)
}

// exchange is one request and its response: all that the middleware keeps for them, in one
// allocation. It is the context of the request.
type exchange struct {
	context.Context
	session Session
	writer  responseWriter
}

// Value gives From the session.
func (x *exchange) Value(key any) any {
	if key == (contextKey{}) {
		return &x.session
	}
	return x.Context.Value(key)
}

// finish commits what the handler changed and did not write a response for. Unless the commit
// fails, it never calls WriteHeader, so that a framework's error handler still can.
func (x *exchange) finish() {
	late := x.writer.wrote
	switch err := x.session.commitBeforeHeader(x, true); {
	case !late && err == nil:
		x.session.writeHeader(x.writer.Header())
		x.session.leaveUnsent()
	case !late:
		x.fail(err)
	case err != nil && !x.session.wasReported():
		x.log("session: changes made after the response header were lost", err)
	}
	x.session.m.touch(x, &x.session)
}

// asUnsafe returns a WebSocket handshake as a request with an unsafe method: browsers let every
// site open a WebSocket, with the cookie. Other requests are returned as they are.
func asUnsafe(r *http.Request) *http.Request {
	if r.Method != http.MethodGet || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return r
	}
	unsafe := *r
	unsafe.Method = http.MethodPost
	return &unsafe
}

// checkOrigin returns ErrCrossOrigin if another site caused a request. The standard library looks
// at the first line of a header. A proxy may have added it, so a request with several counts as one
// of another site.
func (m *Manager) checkOrigin(r *http.Request) error {
	if len(r.Header["Origin"]) > 1 || len(r.Header["Sec-Fetch-Site"]) > 1 {
		doubtful := *r
		doubtful.Header = http.Header{"Sec-Fetch-Site": {"cross-site"}}
		r = &doubtful
	}
	if err := m.cfg.CrossOrigin.Check(r); err != nil {
		return fmt.Errorf("%w: %v", ErrCrossOrigin, err)
	}
	return nil
}

// unwind discards the session after a panic. What is written through the writer from now on, by a
// recovery middleware outside, passes as it is.
func (x *exchange) unwind() {
	x.session.stop(phaseDiscarded, errPanicked)
	if x.writer.wrote {
		return
	}
	defer func() { // also if the store panics
		x.session.writeHeader(x.writer.Header())
		x.writer.wrote = true
	}()
	x.session.lock()
	defer x.session.unlock(x)
	x.session.recheckCookie(x)
}

var errPanicked = errors.New("session: the handler panicked: its changes are discarded")

// giveBack hands to the outer request what the inner copy got: the files of a form, which net/http
// removes when the request is over, and the pattern that a ServeMux found.
func giveBack(outer, inner *http.Request) {
	if outer.MultipartForm == nil {
		outer.MultipartForm = inner.MultipartForm
	}
	if outer.Pattern == "" {
		outer.Pattern = inner.Pattern
	}
}

// fail answers with err instead of what the handler writes.
func (x *exchange) fail(err error) {
	x.writer.wrote, x.writer.swallow = true, true
	x.session.stop(phaseAnswered, err)
	h := x.writer.ResponseWriter.Header()
	for _, name := range bodyHeaders {
		h.Del(name)
	}
	x.session.writeHeader(h)
	x.session.answer(x.writer.ResponseWriter, x.session.request, err)
}

// bodyHeaders belong to a body, or to a success, and not to the error that replaces it.
var bodyHeaders = []string{
	"Accept-Ranges", "Cache-Control", "Cdn-Cache-Control", "Clear-Site-Data", "Content-Disposition", "Content-Encoding",
	"Content-Language", "Content-Length", "Content-Location", "Content-Range", "Content-Type", "Etag",
	"Expires", "Last-Modified", "Location", "Refresh", "Set-Cookie",
	"Surrogate-Control", "Trailer",
}

func (x *exchange) log(msg string, err error) {
	r := x.session.request
	x.session.m.cfg.Logger.ErrorContext(x, msg, "error", err, "method", r.Method, "path", r.URL.Path)
}

// HandlerFunc is a handler that is given its session. ServeHTTP calls [From], then f, and answers
// an error of either with [Error].
type HandlerFunc func(w http.ResponseWriter, r *http.Request, s *Session) error

// ServeHTTP implements http.Handler.
func (f HandlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, err := From(r.Context())
	if err == nil {
		err = f(w, r, s)
	}
	if err != nil {
		Error(w, r, err)
	}
}
