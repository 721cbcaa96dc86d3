package session

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
)

// responseWriter commits the session before the first byte of the response, once.
type responseWriter struct {
	http.ResponseWriter
	x       *exchange
	wrote   bool // the final header has left, or that of an error instead
	swallow bool // the response is an error; what the handler writes is dropped
	flush   bool // the header sets a cookie, and must not wait in a buffer
}

// Unwrap lets http.ResponseController reach what this type does not have.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// begin commits before the response header with this status.
func (w *responseWriter) begin(status int) {
	s := &w.x.session
	w.wrote = true
	returned := false
	defer func() {
		if !returned { // the store panicked, and nothing has left
			w.wrote = false
		}
	}()
	if status >= 400 && s.hasChanges() && inPanic() {
		s.Discard()
	}
	err := s.commitBeforeHeader(w.x, true)
	returned = true
	// A handler that knows of the error may answer itself.
	if err != nil && !(s.wasReported() && status >= 400) {
		w.x.fail(err)
		return
	}
	w.flush = s.writeHeader(w.Header())
}

// inPanic reports whether the caller runs in a function that a panic called: a recovery middleware
// inside this one answers for a handler that panicked. After recover, nothing else tells it.
func inPanic() bool {
	var callers [64]uintptr // a recovery middleware is near the top of the stack
	for _, pc := range callers[:runtime.Callers(3, callers[:])] {
		if f := runtime.FuncForPC(pc); f != nil && f.Name() == "runtime.gopanic" {
			return true
		}
	}
	return false
}

// flushCookie sends the header if it sets a cookie. In a buffer it could wait for the rest of a
// slow response, while other responses bring newer cookies.
func (w *responseWriter) flushCookie() {
	if w.flush {
		w.flush = false
		_ = http.NewResponseController(w.ResponseWriter).Flush() // else it leaves later
	}
}

// WriteHeader implements http.ResponseWriter. Informational headers (1xx) pass, but for 101, which
// is final.
func (w *responseWriter) WriteHeader(status int) {
	final := status < 100 || status > 199 || status == http.StatusSwitchingProtocols
	if final && !w.wrote {
		w.begin(status)
	}
	if w.swallow {
		return
	}
	w.ResponseWriter.WriteHeader(status)
	if w.Header()["Content-Type"] != nil { // else the first bytes of the body tell the type
		w.flushCookie()
	}
}

// start begins a response that comes without WriteHeader, and reports whether it goes to the
// client.
func (w *responseWriter) start() bool {
	if !w.wrote {
		w.begin(http.StatusOK)
	}
	return !w.swallow
}

// replaced returns the error of a write to a response that was replaced by that of an error.
func (w *responseWriter) replaced() error {
	return fmt.Errorf("session: the client gets an error response instead: %w", w.x.session.sticky())
}

func (w *responseWriter) Write(b []byte) (int, error) {
	if !w.start() {
		return 0, w.replaced()
	}
	defer w.flushCookie()
	return w.ResponseWriter.Write(b)
}

// WriteString implements io.StringWriter, as net/http's own writer does.
func (w *responseWriter) WriteString(s string) (int, error) {
	if !w.start() {
		return 0, w.replaced()
	}
	defer w.flushCookie()
	return io.WriteString(w.ResponseWriter, s)
}

// ReadFrom implements io.ReaderFrom, so that files still go by sendfile.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	if !w.start() {
		return 0, w.replaced()
	}
	defer w.flushCookie()
	if to, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		return to.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w.ResponseWriter}, r)
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls to flush. The header leaves with it, so it
// commits. If the commit failed, it flushes the error response and returns the error, so that a
// stream ends.
func (w *responseWriter) FlushError() error {
	if !canFlush(w.ResponseWriter) {
		return http.ErrNotSupported // nothing has left
	}
	going := w.start()
	err := http.NewResponseController(w.ResponseWriter).Flush()
	if !going {
		return w.x.session.sticky()
	}
	return err
}

// canFlush reports whether http.ResponseController can flush w.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

// CloseNotify implements http.CloseNotifier, which gin's Context.Stream needs. New code uses the
// request's context instead.
func (w *responseWriter) CloseNotify() <-chan bool {
	gone := make(chan bool, 1)
	context.AfterFunc(w.x.Context, func() { gone <- true })
	return gone
}

// Hijack implements http.Hijacker. The caller will write the header itself, so Hijack commits
// first. It returns an error if the response needs a new cookie, which would not be sent.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	s := &w.x.session
	if w.swallow {
		return nil, nil, s.sticky()
	}
	if !w.wrote {
		if s.needsCookie() {
			return nil, nil, errHijackedNew
		}
		if err := s.commitBeforeHeader(w.x, false); err != nil {
			s.unsend()
			return nil, nil, err
		}
	}
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		if !w.wrote {
			s.unsend()
		}
		return nil, nil, err
	}
	w.wrote = true
	return conn, rw, nil
}

var errHijackedNew = fmt.Errorf("%w: the handler takes over the connection (WebSocket). "+
	"Store the session in an earlier request, such as that of the page", ErrHeaderSent)

// sticky returns the error that stops the session's commits.
func (s *Session) sticky() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outcome.err
}

func (s *Session) wasReported() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outcome.reported
}
