package ginsession_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/coatcheck-go/session"
	ginsession "github.com/coatcheck-go/session/adapters/gin"
	"github.com/gin-gonic/gin"
)

var errApp = errors.New("secret cause")

// TestWhatFails: which requests drop what they changed.
func TestWhatFails(t *testing.T) {
	recovery := gin.RecoveryWithWriter(nil)
	teapot := gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, _ any) { c.AbortWithStatusJSON(418, "sorry") })
	noBody := gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, _ any) { c.Status(503) })
	page := func(c *gin.Context) { c.String(200, "ok") }
	for name, tt := range map[string]struct {
		outside, inside []gin.HandlerFunc
		h               gin.HandlerFunc // after a change
		status          int
		n               int64
	}{
		"success":                            {nil, nil, page, 200, 2},
		"no response":                        {nil, nil, func(*gin.Context) {}, 200, 2},
		"an error status":                    {nil, nil, func(c *gin.Context) { c.AbortWithStatus(401) }, 401, 2},
		"an error status with a body":        {nil, nil, func(c *gin.Context) { c.JSON(500, "no") }, 500, 2},
		"Error, then no response":            {nil, nil, func(c *gin.Context) { c.Error(errApp) }, 200, 1},
		"Error, then success":                {nil, nil, func(c *gin.Context) { c.Error(errApp); page(c) }, 200, 2},
		"success, then Error":                {nil, nil, func(c *gin.Context) { page(c); c.Error(errApp) }, 200, 2},
		"Error, then 204":                    {nil, nil, func(c *gin.Context) { c.Error(errApp); c.Status(204) }, 204, 2},
		"Error, then a redirect":             {nil, nil, func(c *gin.Context) { c.Error(errApp); c.Redirect(303, "/") }, 303, 2},
		"Error, then an error response":      {nil, nil, func(c *gin.Context) { c.Error(errApp); c.JSON(422, "no") }, 422, 1},
		"AbortWithError":                     {nil, nil, func(c *gin.Context) { c.AbortWithError(500, errApp) }, 500, 1},
		"AbortWithError, then a body":        {nil, nil, func(c *gin.Context) { c.AbortWithError(422, errApp); c.JSON(-1, "no") }, 422, 1},
		"Error of a middleware outside":      {[]gin.HandlerFunc{func(c *gin.Context) { c.Error(errApp) }}, nil, page, 200, 2},
		"an error middleware outside":        {[]gin.HandlerFunc{jsonErrors}, nil, func(c *gin.Context) { c.Error(errApp) }, 200, 1},
		"an error middleware inside":         {nil, []gin.HandlerFunc{jsonErrors}, func(c *gin.Context) { c.Error(errApp); c.Status(502) }, 502, 1},
		"panic, recovery outside":            {[]gin.HandlerFunc{recovery}, nil, func(*gin.Context) { panic("x") }, 500, 1},
		"panic, recovery inside":             {nil, []gin.HandlerFunc{recovery}, func(*gin.Context) { panic("x") }, 500, 1},
		"panic, a recovery of one's own":     {nil, []gin.HandlerFunc{teapot}, func(*gin.Context) { panic("x") }, 418, 1},
		"panic, a recovery without a body":   {nil, []gin.HandlerFunc{noBody}, func(*gin.Context) { panic("x") }, 503, 1},
		"panic of an aborted handler":        {nil, []gin.HandlerFunc{recovery}, func(*gin.Context) { panic(http.ErrAbortHandler) }, 200, 1},
		"panic after a success":              {[]gin.HandlerFunc{recovery}, nil, func(c *gin.Context) { page(c); add(t, c); panic("x") }, 200, 2},
		"panic after the header of an error": {[]gin.HandlerFunc{recovery}, nil, func(c *gin.Context) { c.AbortWithStatus(401); panic("x") }, 401, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := newSite(t, session.Config{}), gin.New()
			r.Use(tt.outside...)
			r.Use(ginsession.Middleware(s.m))
			r.Use(tt.inside...)
			r.GET("/", func(c *gin.Context) { add(t, c); tt.h(c) })
			res := s.do(r, "GET", "/")
			mustEqual(t, "status", res.StatusCode, tt.status)
			mustEqual(t, "n", s.count(), tt.n)
		})
	}
	for _, panics := range []bool{true, false} {
		s, r := newSite(t, session.Config{}), gin.New()
		r.Use(recovery)
		r.GET("/", func(c *gin.Context) {
			add(t, c)
			if panics {
				panic("x")
			}
			c.Status(500)
		})
		mustEqual(t, "the Manager around the engine: status", s.do(s.m.Handler(r), "GET", "/").StatusCode, 500)
		mustEqual(t, "the Manager around the engine: n", s.count(), map[bool]int64{true: 1, false: 2}[panics])
	}
}

// TestErrorsOfSessionsGoToTheErrorMiddleware: it finds the error in c.Errors with a text for the
// client, and answers it. gin's own log gets the status that the client got.
func TestErrorsOfSessionsGoToTheErrorMiddleware(t *testing.T) {
	down := func(s *site, c *gin.Context) { add(t, c); s.store.down.Store(true) }
	for name, tt := range map[string]struct {
		method  string
		h       func(s *site, c *gin.Context)
		route   session.Route
		want    error
		status  int
		headers string // one that the response must have
	}{
		"commit at a body": {"GET", func(s *site, c *gin.Context) { down(s, c); c.JSON(200, "ok") }, session.Route{}, session.ErrUnavailable, 503, "Retry-After"},
		"commit, then an error of the handler": {"GET", func(s *site, c *gin.Context) { down(s, c); c.JSON(200, "ok"); c.Error(errApp) },
			session.Route{}, session.ErrUnavailable, 503, "Retry-After"},
		"commit at a redirect": {"GET", func(s *site, c *gin.Context) { down(s, c); c.Redirect(303, "/") }, session.Route{}, session.ErrUnavailable, 503, "Retry-After"},
		"commit at the end":    {"GET", down, session.Route{}, session.ErrUnavailable, 503, "Retry-After"},
		"commit at an error":   {"GET", func(s *site, c *gin.Context) { down(s, c); c.AbortWithStatus(404) }, session.Route{}, session.ErrUnavailable, 503, "Retry-After"},
		"cross-site":           {"POST", down, session.Route{}, session.ErrCrossOrigin, 403, ""},
		"route":                {"GET", down, session.Route{SignedIn: true}, session.ErrNotSignedIn, 401, "WWW-Authenticate"},
		"handler": {"GET", func(_ *site, c *gin.Context) {
			ginsession.Handler(func(c *gin.Context, _ *session.Session) error { add(t, c); return session.ErrNotFresh })(c)
		}, session.Route{}, session.ErrNotFresh, 401, "WWW-Authenticate"},
		"an application's error": {"GET", func(_ *site, c *gin.Context) {
			ginsession.Handler(func(c *gin.Context, _ *session.Session) error { add(t, c); return errApp })(c)
		}, session.Route{}, errApp, 500, ""},
	} {
		for _, order := range []string{"", "custom"} {
			t.Run(name+order, func(t *testing.T) {
				var cfg session.Config
				if order == "custom" {
					cfg.OnError = func(w http.ResponseWriter, _ *http.Request, err error) {
						http.Error(w, "custom", session.Status(err))
					}
				}
				s, r, last, logged := newSite(t, cfg), gin.New(), error(nil), 0
				r.Use(func(c *gin.Context) { c.Next(); logged = c.Writer.Status() }, jsonErrors, func(c *gin.Context) {
					c.Next()
					if len(c.Errors) > 0 {
						last = c.Errors.Last().Err
					}
				}, ginsession.Middleware(s.m), ginsession.RouteMiddleware(tt.route))
				r.Handle(tt.method, "/", func(c *gin.Context) { c.Header("ETag", `"x"`); tt.h(s, c) })
				res := s.do(r, tt.method, "/", "Sec-Fetch-Site", map[bool]string{true: "cross-site", false: "none"}[tt.method == "POST"])
				mustEqual(t, "status", res.StatusCode, tt.status)
				mustEqual(t, "logged", logged, tt.status)
				body := `{"error":"` + session.Message(tt.want) + `"}`
				if order == "custom" {
					body = "custom\n"
				} else if !errors.Is(last, tt.want) || last.Error() != session.Message(tt.want) {
					t.Errorf("the last error is %v", last)
				}
				mustEqual(t, "body", res.body, body)
				if tt.headers != "" && res.Header.Get(tt.headers) == "" || res.Header.Get("Location") != "" {
					t.Errorf("header %v", res.Header)
				}
				mustEqual(t, "n", s.count(), 1)
			})
		}
	}
}

// TestErrorMiddlewareInsideAnswersHandlers: errors of handlers, though not of a failed commit, can
// be answered inside.
func TestErrorMiddlewareInsideAnswersHandlers(t *testing.T) {
	s, r := newSite(t, session.Config{}), gin.New()
	r.Use(ginsession.Middleware(s.m), jsonErrors)
	r.GET("/", ginsession.Handler(func(*gin.Context, *session.Session) error { return session.ErrNotSignedIn }))
	res := s.do(r, "GET", "/")
	mustEqual(t, "response", res.body, `{"error":"Please sign in."}`)
	mustEqual(t, "status", res.StatusCode, 401)
}

// TestWithoutMiddleware: a handler without the middleware gets an error, and its client a 500.
func TestWithoutMiddleware(t *testing.T) {
	s, r := newSite(t, session.Config{}), gin.New()
	r.GET("/", ginsession.Handler(func(*gin.Context, *session.Session) error { t.Error("runs"); return nil }),
		func(*gin.Context) { t.Error("goes on") })
	mustEqual(t, "status", s.do(r, "GET", "/").StatusCode, 500)
}

// TestContexts: where a session is found.
func TestContexts(t *testing.T) {
	s, r := newSite(t, session.Config{}), gin.New()
	r.ContextWithFallback = true
	r.Use(ginsession.Middleware(s.m), ginsession.Middleware(s.m))
	done := make(chan error, 1)
	r.GET("/", func(c *gin.Context) {
		ses := add(t, c)
		if same, err := session.From(c); same != ses || err != nil {
			t.Errorf("From of the gin.Context: %v", err)
		}
		if err := ses.Commit(c); err != nil {
			t.Error(err)
		}
		c.String(200, "ok")
		cp := c.Copy()
		go func() {
			copied, err := ginsession.From(cp)
			if err == nil && copied == ses {
				n.Add(ses, 10)
				err = ses.Commit(cp.Request.Context())
			}
			done <- err
		}()
	})
	mustEqual(t, "status", s.do(r, "GET", "/").StatusCode, 200)
	if err := <-done; err != nil {
		t.Error(err)
	}
	mustEqual(t, "n", s.count(), 12)
}

// TestHandleContext: the changes of a visitor whose session is stored are committed, though the
// engine has replaced the writer.
func TestHandleContext(t *testing.T) {
	s, r := newSite(t, session.Config{}), gin.New()
	r.Use(ginsession.Middleware(s.m))
	r.GET("/", func(c *gin.Context) {
		add(t, c)
		c.Request.URL.Path = "/other"
		r.HandleContext(c)
	})
	r.GET("/other", func(c *gin.Context) { add(t, c); c.String(200, "other") })
	mustEqual(t, "body", s.do(r, "GET", "/").body, "other")
	mustEqual(t, "n", s.count(), 3)
}
