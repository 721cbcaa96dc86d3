// Package fibersession joins sessions and Fiber v3.
//
//	app := fiber.New(fiber.Config{ErrorHandler: fibersession.ErrorHandler(sessions, nil)})
//	app.Use(logger.New(), recover.New(), fibersession.Middleware(sessions))
//	app.Get("/", fibersession.Handler(home))
//
// Put the logger and the recovery before this middleware, as above.
package fibersession

import (
	"errors"

	"github.com/coatcheck-go/session"
	"github.com/gofiber/fiber/v3"
)

// Middleware is [session.Manager.Handler] for Fiber. What a handler changes is committed when the
// handlers inside have returned, before the header of the response leaves. If they return an error
// or panic, what they changed and did not commit is dropped.
//
// Middleware returns errors, so that Fiber's ErrorHandler answers them. An error of a session
// becomes a [fiber.Error] with the status of [session.Status] and the text of [session.Message],
// which wraps the error. So does an error with a method StatusCode() int. The header has
// Retry-After or WWW-Authenticate where they belong to the status. If the commit fails, the
// response of the handler is dropped. Config.OnError is not called, because it answers requests of
// net/http.
//
// What the ErrorHandler changes is not committed, unless it calls [session.Session.Commit].
//
// The body of a stream is written when the handlers have returned. What it changes is committed by
// Session.Commit alone. It cannot store a new session, because the header has left. The same holds
// for what a WebSocket's handler does. But a change before the handshake can store a new session:
// the response of the handshake brings the cookie.
//
// Session keeps nothing of a request that Fiber overwrites for the next one. Handlers may give it
// texts such as c.Get("User-Agent") without a copy.
//
// With Config.CSRF, a form finds its token if the body is in memory. With
// fiber.Config.StreamRequestBody, send the token in the header [session.CSRFHeader].
func Middleware(m *session.Manager) fiber.Handler {
	withBody := m.Config().CSRF
	return func(c fiber.Ctx) error {
		parent := c.Context()
		d := describe(parent, c, withBody)
		ctx, err := m.Load(&d.Request)
		if ctx == parent { // the middleware is nested
			return c.Next()
		}
		d.forget()
		c.SetContext(ctx)
		x := exchange{c: c, m: m, ctx: ctx}
		if err != nil {
			return x.refuse(err)
		}
		x.panics = true
		defer x.unwind()
		err = c.Next()
		x.panics = false
		return x.finish(err)
	}
}

// From returns the session of a request: [session.From] of c.Context(). Return its error from the
// handler.
func From(c fiber.Ctx) (*session.Session, error) { return session.From(c.Context()) }

// Handler returns a handler that is given its session. It returns the error of [From] or of f. If f
// fails, what it changed is dropped at once, even if a middleware inside of [Middleware] answers
// the error by itself.
func Handler(f func(c fiber.Ctx, s *session.Session) error) fiber.Handler {
	return func(c fiber.Ctx) error {
		s, err := From(c)
		if err != nil {
			return err
		}
		if err := f(c, s); err != nil {
			s.Discard()
			return err
		}
		return nil
	}
}

// RouteMiddleware is [session.Route.Handler] for Fiber: it returns the error of
// [session.Route.Check]. It goes inside of [Middleware].
func RouteMiddleware(rt session.Route) fiber.Handler {
	return func(c fiber.Ctx) error {
		if err := rt.Check(c.Context()); err != nil {
			return err
		}
		return c.Next()
	}
}

// ErrorHandler returns an ErrorHandler that first drops what a failed handler has changed. It is
// for middleware that calls the ErrorHandler by itself, as Fiber's logger does, inside of
// [Middleware]. It gives next the errors of sessions as Middleware returns them. Default for next:
// the status and the text of a [fiber.Error], and status 500 for others. Unlike
// [fiber.DefaultErrorHandler] it does not show the text of those to the client.
func ErrorHandler(m *session.Manager, next fiber.ErrorHandler) fiber.ErrorHandler {
	if next == nil {
		next = answer
	}
	return func(c fiber.Ctx, err error) error {
		m.Discard(c.Context())
		_, err = answerable(err)
		return next(c, err)
	}
}

// answer answers err without telling the client more than a fiber.Error does.
func answer(c fiber.Ctx, err error) error {
	var known *fiber.Error
	if !errors.As(err, &known) {
		known = fiber.ErrInternalServerError
	}
	return fiber.DefaultErrorHandler(c, known)
}

// sessionError is an error as Fiber's ErrorHandler gets it: a fiber.Error, with a text that clients
// may see, and its cause.
type sessionError struct {
	answer *fiber.Error
	cause  error
}

func (e *sessionError) Error() string   { return e.answer.Message }
func (e *sessionError) Unwrap() []error { return []error{e.answer, e.cause} }

// answerable returns an error of a session, or one that knows its status, as a fiber.Error, and
// reports that it is one. It returns other errors as they are.
func answerable(err error) (ok bool, answer error) {
	if err == nil {
		return false, nil
	}
	var own *fiber.Error
	if errors.As(err, &own) {
		return false, err
	}
	var known interface{ StatusCode() int }
	if !isSession(err) && !errors.As(err, &known) {
		return false, err
	}
	return true, &sessionError{fiber.NewError(session.Status(err), session.Message(err)), err}
}

// isSession reports whether err is one of package session.
func isSession(err error) bool {
	for _, of := range sessionErrors {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

var sessionErrors = []error{
	session.ErrNoManager, session.ErrUnavailable, session.ErrEnded, session.ErrHeaderSent, session.ErrTooLarge,
	session.ErrInvalid, session.ErrDecode, session.ErrSealed, session.ErrAmbiguous, session.ErrCrossOrigin, session.ErrCSRF,
	session.ErrNotSignedIn, session.ErrNotFresh, session.ErrTooMany, session.ErrRevoked, session.ErrNotFound,
}
