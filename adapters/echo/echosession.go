// Package echosession joins sessions and Echo v5. Package adapters/echov4 does the same for Echo
// v4.
//
//	e.Use(middleware.RequestLogger(), middleware.Recover(), echosession.Middleware(sessions))
//	e.GET("/", echosession.Handler(home))
//
// Put the request logger and the recovery before this middleware, as above.
package echosession

import (
	"errors"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/labstack/echo/v5"
)

// Middleware is [session.Manager.Handler] for Echo. What a handler changes is committed before the
// first byte of its response leaves. If a handler returns an error, what it changed and did not
// commit is dropped.
//
// Middleware returns errors, so that Echo's HTTPErrorHandler answers them. An error of a session
// becomes an [echo.HTTPError] with the status of [session.Status] and the text of
// [session.Message], which wraps the error. The header has Retry-After or WWW-Authenticate where
// they belong to the status. If the commit fails while the handler writes its response, Middleware
// calls the HTTPErrorHandler at once, and returns the error as well. So an HTTPErrorHandler must do
// nothing after a response that is committed, as with Echo's own middleware.
//
// If Config.OnError is set, it answers the errors of sessions instead, and Middleware returns nil.
//
// The request keeps the session's context when Middleware has returned. So a logger outside gets
// the session's handle from it, and an HTTPErrorHandler can read the session.
func Middleware(m *session.Manager) echo.MiddlewareFunc {
	custom := m.Config().OnError
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			x := &exchange{c: c, m: m, next: next, custom: custom, returns: true}
			m.Serve(c.Response(), c.Request(), x.serve, x.answer)
			x.returns = false // what the HTTPErrorHandler writes is committed, too
			return x.err
		}
	}
}

// From returns the session of a request: [session.From] of its context. Return its error from the
// handler: it is an [echo.HTTPError] that wraps that of session.From.
func From(c *echo.Context) (*session.Session, error) {
	s, err := session.From(c.Request().Context())
	if err != nil {
		return nil, httpError(err)
	}
	return s, nil
}

// Handler returns a handler that is given its session. It returns the error of [From] or of f. If f
// fails, what it changed is dropped at once, even if a middleware inside of [Middleware] answers
// the error by itself.
func Handler(f func(c *echo.Context, s *session.Session) error) echo.HandlerFunc {
	return func(c *echo.Context) error {
		s, err := From(c)
		if err != nil {
			return err
		}
		if err := f(c, s); err != nil {
			s.Discard()
			return httpError(err)
		}
		return nil
	}
}

// RouteMiddleware is [session.Route.Handler] for Echo: it returns the error of
// [session.Route.Check], as [From] does. It goes inside of [Middleware].
func RouteMiddleware(rt session.Route) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			if err := rt.Check(c.Request().Context()); err != nil {
				return httpError(err)
			}
			return next(c)
		}
	}
}

// ErrorHandler returns an HTTPErrorHandler that drops what a failed handler has changed, and then
// calls next. Middleware inside of [Middleware] may call the HTTPErrorHandler before Middleware
// sees the error: Echo's request logger does.
//
//	e.HTTPErrorHandler = echosession.ErrorHandler(sessions, e.HTTPErrorHandler)
//
// It gives next the errors of sessions as [From] returns them.
func ErrorHandler(m *session.Manager, next echo.HTTPErrorHandler) echo.HTTPErrorHandler {
	return func(c *echo.Context, err error) {
		m.Discard(c.Request().Context())
		next(c, httpError(err))
	}
}

// exchange is one request in the middleware.
type exchange struct {
	c      *echo.Context
	m      *session.Manager
	next   echo.HandlerFunc
	custom func(http.ResponseWriter, *http.Request, error) // Config.OnError, if it is set

	returns  bool  // errors are left to what the middleware returns
	answered bool  // the client has got the answer to an error
	err      error // what the middleware returns
}

// serve calls the handler with the writer and the request that carry the session. It does not
// restore the old ones: what the HTTPErrorHandler writes goes through w, too.
func (x *exchange) serve(w http.ResponseWriter, r *http.Request) {
	x.c.SetResponse(w)
	x.c.SetRequest(r)
	x.returns = false
	err := x.next(x.c)
	x.returns = true
	switch {
	case err == nil || x.answered:
	case ofSession(err):
		x.err = httpError(err)
		session.Error(w, r, err)
	default:
		x.m.Discard(r.Context())
		x.err = err
	}
}

// answer is what the Manager calls for an error. w is the writer for the answer.
func (x *exchange) answer(w http.ResponseWriter, r *http.Request, err error) {
	if x.custom != nil {
		x.answered, x.err = true, nil
		x.custom(w, r, err)
		return
	}
	x.err = httpError(err)
	if x.returns {
		x.c.SetResponse(w)
		x.c.SetRequest(r)
		return
	}
	x.answered = true
	was := x.c.Response()
	x.c.SetResponse(w)
	x.c.Echo().HTTPErrorHandler(x.c, x.err)
	// Context.JSON has one writer for each context. If the handler is inside of it, the
	// HTTPErrorHandler's JSON has pointed that writer at w, and the handler would write on after
	// the answer. Another JSON points it away.
	x.c.SetResponse(refused{x.err})
	_ = x.c.JSON(http.StatusOK, nil)
	x.c.SetResponse(was)
}

// refused is a response that nobody gets.
type refused struct{ err error }

func (refused) Header() http.Header         { return http.Header{} }
func (refused) WriteHeader(int)             {}
func (w refused) Write([]byte) (int, error) { return 0, w.err }

// httpError returns err as Echo's HTTPErrorHandler and loggers understand it, if the status of err
// is not one for which Echo has its own words.
func httpError(err error) error {
	if status := session.Status(err); echo.StatusCode(err) == 0 && status != http.StatusInternalServerError {
		return echo.NewHTTPError(status, session.Message(err)).Wrap(err)
	}
	return err
}

// ofSession reports whether err is one of package session, or wraps one with the same status.
func ofSession(err error) bool {
	var he *echo.HTTPError
	if errors.As(err, &he) && he.Unwrap() != nil && session.Status(he.Unwrap()) == he.Code {
		err = he.Unwrap()
	}
	return echo.StatusCode(err) == 0 && session.Status(err) != http.StatusInternalServerError
}
