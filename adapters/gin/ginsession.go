// Package ginsession joins sessions and gin.
//
//	r := gin.New()
//	r.Use(gin.Logger(), gin.Recovery(), answerErrors, ginsession.Middleware(sessions))
//	r.GET("/", ginsession.Handler(home))
//
// Put the logger, the recovery and a middleware that answers the errors of c.Errors before this
// middleware, as above.
package ginsession

import (
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/gin-gonic/gin"
)

// Middleware is [session.Manager.Handler] for gin. What a handler changes is committed before the
// header of its response leaves.
//
// A handler fails if it panics, or if it records an error with c.Error and the response has a
// status of 400 or more, or there is none. What it changed and did not commit is dropped then. An
// error that is recorded beside a successful response drops nothing.
//
// An error of a session, such as a commit that failed, is recorded with c.Error. The response gets
// the status of [session.Status], and Retry-After or WWW-Authenticate where they belong to it. It
// has no body and is not written yet, so that a middleware outside can answer it. The recorded
// error has the text of [session.Message], wraps the cause and has type [gin.ErrorTypePublic].
// After a failed commit, what the handlers inside write is dropped.
//
// If Config.OnError is set, it answers these errors instead, and c.Errors does not get them.
//
// The request keeps the session's context when Middleware has returned. So a logger outside gets
// the session's handle from it.
func Middleware(m *session.Manager) gin.HandlerFunc {
	custom := m.Config().OnError
	return func(c *gin.Context) {
		x := &exchange{c: c, m: m, custom: custom, outside: outside{ResponseWriter: c.Writer}}
		x.writer = writer{ResponseWriter: c.Writer, x: x}
		m.Serve(&x.outside, c.Request, x.serve, x.answer)
		if x.answered && custom == nil {
			x.recordLast()
		}
	}
}

// From returns the session of a request: [session.From] of its context. It does not depend on
// [gin.Engine.ContextWithFallback].
func From(c *gin.Context) (*session.Session, error) { return session.From(c.Request.Context()) }

// Handler returns a handler that is given its session. An error of [From] or of f is answered as
// the errors of sessions are, see [Middleware], and aborts the chain. [session.Error] logs it. An
// error with a method StatusCode() int keeps its status.
func Handler(f func(c *gin.Context, s *session.Session) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		s, err := From(c)
		if err == nil {
			err = f(c, s)
		}
		fail(c, err)
	}
}

// RouteMiddleware is [session.Route.Handler] for gin: it answers an error of [session.Route.Check]
// as [Handler] does. It goes inside of [Middleware].
func RouteMiddleware(rt session.Route) gin.HandlerFunc {
	return func(c *gin.Context) { fail(c, rt.Check(c.Request.Context())) }
}

// fail answers err, unless it is nil.
func fail(c *gin.Context, err error) {
	if err != nil {
		c.Abort()
		session.Error(c.Writer, c.Request, err)
	}
}

// exchange is one request in the middleware.
type exchange struct {
	c       *gin.Context
	m       *session.Manager
	custom  func(http.ResponseWriter, *http.Request, error) // Config.OnError, if it is set
	outside outside
	writer  writer
	errors  int // how many c.Errors has from outside

	answered bool       // the commit failed: the response is that of the error
	recorded *gin.Error // the error of the failed commit
}

// serve runs the handlers inside with the writer and the request that carry the session.
func (x *exchange) serve(w http.ResponseWriter, r *http.Request) {
	c := x.c
	if w == http.ResponseWriter(&x.outside) { // the middleware is nested
		c.Next()
		return
	}
	x.writer.inner, x.errors = w, len(c.Errors)
	c.Writer, c.Request = &x.writer, r
	defer x.restore()
	c.Next()
	switch {
	case x.answered:
	case x.writer.held:
		x.writer.send(false)
	case !x.writer.Written():
		x.dropIfFailed()
	}
}

// restore gives those outside their writer back, also after a panic.
func (x *exchange) restore() {
	x.c.Writer = x.writer.ResponseWriter
	if x.writer.held { // after the header, the handler panicked
		x.m.Discard(x.c.Request.Context())
		x.writer.send(false)
	}
}

// dropIfFailed drops what the handlers changed if they failed.
func (x *exchange) dropIfFailed() {
	responds := x.writer.Written() || x.writer.hasStatus
	if len(x.c.Errors) > x.errors && (!responds || x.writer.Status() >= http.StatusBadRequest) {
		x.m.Discard(x.c.Request.Context())
	}
}

// answer is what the Manager calls for an error. w is the writer for the answer: the one outside if
// the commit failed, or else that of the handler which failed.
func (x *exchange) answer(w http.ResponseWriter, r *http.Request, err error) {
	x.c.Abort()
	x.answered = x.answered || w == http.ResponseWriter(&x.outside)
	if x.custom != nil {
		x.writer.failure = err
		x.custom(w, r, err)
		return
	}
	w.WriteHeader(session.Status(err)) // gin writes it later
	recorded := x.c.Error(&sessionError{err}).SetType(gin.ErrorTypePublic)
	if x.answered {
		x.recorded, x.writer.failure = recorded, recorded
	}
}

// recordLast makes the error of the failed commit the last one of c.Errors, since error handlers
// answer that one. The handler may have recorded an error of its write after it.
func (x *exchange) recordLast() {
	if x.c.Errors.Last() != x.recorded {
		x.c.Errors = append(x.c.Errors, x.recorded)
	}
}

// sessionError is an error as c.Errors gets it: with a text that clients may see.
type sessionError struct{ cause error }

func (e *sessionError) Error() string   { return session.Message(e.cause) }
func (e *sessionError) Unwrap() error   { return e.cause }
func (e *sessionError) StatusCode() int { return session.Status(e.cause) }
