package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Handler is the middleware. Handlers inside it get their session with [From]; what they change is committed before the first byte of
// the response leaves. If that fails, the client gets the answer of Config.OnError, and what the handler writes is dropped. A handler
// that panics changes nothing but what it had committed itself; put a recovery middleware outside of this one, so that it need not tell
// a panic from an answer.
//
// A change made after the header has left is committed when the handler returns; its failure is logged. An http.TimeoutHandler belongs outside of
// this one: inside, its answer is one like any other, and commits what the handler had changed by then.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, err := sessionOf(r.Context()); err == nil && s.m == m {
			next.ServeHTTP(w, r) // inside itself: one session, one cookie
			return
		}
		x := &exchange{Context: r.Context()}
		x.session.begin(m, r.Header)
		x.writer = responseWriter{ResponseWriter: w, x: x}
		x.session.request = r.WithContext(x)
		if x.session.cred.hasCookie && !x.session.cred.inHeader {
			if err := m.cfg.CrossOrigin.Check(r); err != nil {
				x.fail(fmt.Errorf("%w: %v", ErrCrossOrigin, err))
				return
			}
		}
		if err := x.checkCSRF(x.session.request); err != nil {
			x.fail(err)
			return
		}
		returned := false
		defer func() {
			if !returned && !x.writer.wrote { // it panics, or exits
				x.session.writeHeader(w.Header())
			}
		}()
		next.ServeHTTP(&x.writer, x.session.request)
		returned = true
		x.finish()
	})
}

// exchange is one request and its response: all that the middleware keeps for it, in one allocation. It is the context of the
// request.
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

// finish commits what the handler changed and did not write a response for. It never calls WriteHeader unless the commit fails, so
// that a framework's error handler still can.
func (x *exchange) finish() {
	late := x.writer.wrote
	switch err := x.session.commitBeforeHeader(x, true); {
	case !late && err == nil:
		x.session.writeHeader(x.writer.Header())
		x.session.unsend()
	case !late:
		x.fail(err)
	case err != nil && !x.session.wasTold():
		x.log("session: changes made after the response header were lost", err)
	}
	x.session.m.touch(x, &x.session)
}

// fail answers with err in place of the handler.
func (x *exchange) fail(err error) {
	x.writer.wrote, x.writer.swallow = true, true
	x.session.refuse(err)
	h := x.writer.ResponseWriter.Header()
	for _, name := range ofBody {
		h.Del(name)
	}
	x.session.writeHeader(h)
	x.session.answer(x.writer.ResponseWriter, x.session.request, err)
}

// ofBody are the header fields that belong to the body, or to the success, that an error takes the place of.
var ofBody = []string{
	"Accept-Ranges", "Cache-Control", "Clear-Site-Data", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length",
	"Content-Location", "Content-Range", "Content-Type", "Etag", "Expires", "Last-Modified", "Location", "Refresh", "Set-Cookie", "Trailer",
}

func (x *exchange) log(msg string, err error) {
	x.session.m.cfg.Logger.ErrorContext(x, msg, "error", err)
}

func (s *Session) wasTold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told
}

// writeHeader adds to h what the session has to say: the cookie, and how the response may be cached.
func (s *Session) writeHeader(h http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.used {
		return
	}
	addVary(h, "Cookie")
	if s.m.cfg.Bearer {
		addVary(h, "Authorization")
	}
	s.clearSite(h, s.setToken == setCookie)
	switch s.setToken {
	case setCookie:
		var maxAge time.Duration
		if s.persistent() {
			maxAge = s.m.cfg.Lifetime
			if s.record != nil {
				maxAge = s.record.Deadline.Sub(s.now)
			}
		}
		t := &s.cred.token
		if s.next != nil {
			t = s.next
		}
		h.Add("Set-Cookie", s.m.cookie(t.Text(s.m.keys), maxAge))
		s.cred.hasCookie = true
	case deleteCookie:
		h.Add("Set-Cookie", s.m.cookie("", 0))
	case handedOut:
		if s.stale { // beside the new token it would make every request ambiguous
			h.Add("Set-Cookie", s.m.cookie("", 0))
		}
	}
	switch {
	case s.setToken != keepCookie:
		h.Set("Cache-Control", "no-store") // a cache that kept the token would give it to others
		s.setToken = keepCookie
	case h["Cache-Control"] == nil:
		h["Cache-Control"] = []string{"private, no-cache"}
	}
}

// persistent reports that the cookie outlives the browser.
func (s *Session) persistent() bool {
	if s.record != nil && s.record.Principal != nil {
		return s.record.Principal.Persistent
	}
	return s.m.cfg.Cookie.Persistent
}

func addVary(h http.Header, name string) {
	for _, line := range h["Vary"] {
		for v := range strings.SplitSeq(line, ",") {
			if v = strings.TrimSpace(v); v == "*" || strings.EqualFold(v, name) {
				return
			}
		}
	}
	h["Vary"] = append(slices.Clip(h["Vary"]), name)
}

// Error answers for err as Config.OnError says: by default with the status of [Status], Retry-After for 503, and a sentence that tells
// the client nothing of the cause, which goes to the log. What the request changed and did not commit is dropped. After the response
// header has left it only logs.
func Error(w http.ResponseWriter, r *http.Request, err error) {
	s, missing := sessionOf(r.Context())
	if missing != nil {
		slog.ErrorContext(r.Context(), "session: request failed", "error", err)
		defaultOnError(w, r, err)
		return
	}
	switch sent, answered := s.abandon(err); {
	case answered: // and logged
	case sent:
		s.log(r.Context(), err)
	default:
		s.answer(w, r, err)
	}
}

// abandon drops what was not committed, and reports whether the response header has left, and whether err is what it reports.
func (s *Session) abandon(err error) (sent, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused {
		return true, errors.Is(err, s.err)
	}
	s.ops, s.err, s.edited, s.told = nil, nil, false, false
	return s.sent, false
}

func (s *Session) answer(w http.ResponseWriter, r *http.Request, err error) {
	s.log(r.Context(), err)
	s.m.cfg.OnError(w, r, err)
}

// log logs what a request failed with: loudly what an operator can mend.
func (s *Session) log(ctx context.Context, err error) {
	level := slog.LevelError
	if Status(err) < 500 {
		level = slog.LevelInfo
	}
	if ctx.Err() != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrDecode) && !errors.Is(err, ErrSealed) {
		level = slog.LevelDebug // the client hung up, and what failed is most likely the answer
	}
	s.m.cfg.Logger.Log(ctx, level, "session: request failed", "status", Status(err), "error", err)
}

func defaultOnError(w http.ResponseWriter, _ *http.Request, err error) {
	status, text := answerTo(err)
	switch status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		challenge := `Bearer realm="session"`
		if missing := (*freshnessError)(nil); errors.As(err, &missing) {
			challenge = missing.challenge()
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	http.Error(w, text, status)
}

// HandlerFunc is a handler that is given its session. ServeHTTP calls [From], then f, and answers an error of either with [Error].
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
