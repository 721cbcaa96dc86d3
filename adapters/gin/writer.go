package ginsession

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"

	"github.com/gin-gonic/gin"
)

// writer is the gin.ResponseWriter of the handlers inside. gin's WriteHeader only notes the status.
// The header leaves with WriteHeaderNow or with the body, and then writer commits the session.
//
// A header with an error status that comes without a body is held until the handlers have returned:
// c.AbortWithError writes the header before it records the error. Until then, unlike in gin, fields
// can be added to it.
type writer struct {
	gin.ResponseWriter                     // outside; it has the status and the size
	inner              http.ResponseWriter // commits the session, then writes to the one outside
	x                  *exchange
	hasStatus          bool  // the handlers chose the status
	held               bool  // WriteHeaderNow was called; the header is still to be sent
	sent               bool  // the header was sent, and with it the session was committed
	failure            error // what writes return after a failed commit
	dropped            http.Header
}

// Unwrap lets http.ResponseController reach what this type does not have.
func (w *writer) Unwrap() http.ResponseWriter { return w.inner }

// Header returns the header of the response. After a failed commit the response is that of the
// error, and what the handlers set is dropped.
func (w *writer) Header() http.Header {
	switch {
	case !w.x.answered:
		return w.ResponseWriter.Header()
	case w.dropped == nil:
		w.dropped = http.Header{}
	}
	return w.dropped
}

// WriteHeader notes the status. Like gin's, it ignores what comes after the header.
func (w *writer) WriteHeader(status int) {
	if w.Written() {
		return
	}
	// The header leaves later, and then nothing shows the panic any more.
	if status >= http.StatusBadRequest && inPanic() {
		w.x.m.Discard(w.x.c.Request.Context())
	}
	w.hasStatus = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) WriteHeaderNow() {
	switch {
	case w.Written():
	case w.Status() >= http.StatusBadRequest:
		if inPanic() {
			w.x.m.Discard(w.x.c.Request.Context())
		}
		w.held = true
	default:
		w.send(false)
	}
}

// inPanic reports whether the caller runs in a function that a panic called: a recovery inside this
// middleware answers for a handler that panicked. The Manager looks for it only when the header
// leaves.
func inPanic() bool {
	var callers [64]uintptr // the recovery is near the top of the stack
	for _, pc := range callers[:runtime.Callers(3, callers[:])] {
		if f := runtime.FuncForPC(pc); f != nil && f.Name() == "runtime.gopanic" {
			return true
		}
	}
	return false
}

// send commits and sends the header, once. If a body follows, the header leaves with that: a
// compression outside decides about it at the first write. send reports whether the body goes to
// the client.
func (w *writer) send(body bool) bool {
	if !w.sent && !w.x.answered {
		w.held = true // Written while it is judged
		w.x.dropIfFailed()
		w.x.outside.wait = true
		w.inner.WriteHeader(w.Status())
		w.x.outside.wait, w.held, w.sent = false, false, true
		if !body && !w.x.answered {
			w.ResponseWriter.WriteHeaderNow()
			w.x.outside.flushLate()
		}
	}
	return !w.x.answered
}

// Written reports whether the header was written, as far as the handlers know.
func (w *writer) Written() bool {
	return w.held || w.sent || w.x.answered || w.ResponseWriter.Written()
}

func (w *writer) Size() int {
	if w.Written() {
		return max(0, w.ResponseWriter.Size())
	}
	return w.ResponseWriter.Size()
}

func (w *writer) Write(b []byte) (int, error) {
	if !w.send(true) {
		return 0, w.failure
	}
	defer w.x.outside.flushLate()
	return w.inner.Write(b)
}

func (w *writer) WriteString(s string) (int, error) {
	if !w.send(true) {
		return 0, w.failure
	}
	defer w.x.outside.flushLate()
	return io.WriteString(w.inner, s)
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls to flush. After a failed commit it returns the
// error, so that a stream ends.
func (w *writer) FlushError() error {
	if !w.send(false) {
		return w.failure
	}
	return http.NewResponseController(w.inner).Flush()
}

// Hijack commits first, and returns an error if the response needs a new cookie.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.held {
		w.send(false)
	}
	conn, rw, err := http.NewResponseController(w.inner).Hijack()
	w.sent = w.sent || err == nil
	return conn, rw, err
}

// CloseNotify works on any server: it follows the context of the request.
func (w *writer) CloseNotify() <-chan bool {
	return w.inner.(closeNotifier).CloseNotify()
}

// closeNotifier is the deprecated http.CloseNotifier, which gin.ResponseWriter has.
type closeNotifier interface{ CloseNotify() <-chan bool }

// outside is the writer outside, as the Manager gets it. The Manager flushes a header that sets a
// cookie. outside puts that off until the body has begun.
type outside struct {
	gin.ResponseWriter
	wait bool // the header does not leave yet
	late bool // a flush was put off
}

// Unwrap lets http.ResponseController reach what this type does not have.
func (o *outside) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func (o *outside) Flush() {
	if o.wait {
		o.late = true
		return
	}
	o.ResponseWriter.Flush()
}

// flushLate flushes if that was put off. An error response ends soon, and gin-contrib/gzip breaks
// it with a flush.
func (o *outside) flushLate() {
	if o.late && o.Status() < http.StatusBadRequest {
		o.ResponseWriter.Flush()
	}
	o.late = false
}
