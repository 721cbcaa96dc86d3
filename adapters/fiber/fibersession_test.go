package fibersession_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	fibersession "github.com/coatcheck-go/session/adapters/fiber"
	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/compress"
	"github.com/gofiber/fiber/v3/middleware/logger"
	recoverer "github.com/gofiber/fiber/v3/middleware/recover"
)

var errApp = errors.New("secret cause")

// statusError is an application's error that knows its status.
type statusError int

func (e statusError) Error() string   { return "secret cause" }
func (e statusError) StatusCode() int { return int(e) }

// TestWhatFails: which requests drop what they changed, and what their client gets.
func TestWhatFails(t *testing.T) {
	quiet := logger.New(logger.Config{Stream: io.Discard})
	for name, tt := range map[string]struct {
		outside, inside []any
		h               fiber.Handler // after a change
		response        string
		n               int64
	}{
		"success":                 {nil, nil, func(c fiber.Ctx) error { return c.SendString("ok") }, "200 ok", 2},
		"no response":             {nil, nil, func(fiber.Ctx) error { return nil }, "200 ", 2},
		"an error status":         {nil, nil, func(c fiber.Ctx) error { return c.SendStatus(500) }, "500 Internal Server Error", 2},
		"error":                   {nil, nil, func(fiber.Ctx) error { return errApp }, "500 Internal Server Error", 1},
		"error after a response":  {nil, nil, func(c fiber.Ctx) error { c.SendString("ok"); return errApp }, "500 Internal Server Error", 1},
		"fiber.Error":             {nil, nil, func(fiber.Ctx) error { return fiber.NewError(422, "no") }, "422 no", 1},
		"error with a status":     {nil, nil, func(fiber.Ctx) error { return statusError(404) }, "404 404", 1},
		"panic, recovery outside": {[]any{recoverer.New()}, nil, func(fiber.Ctx) error { panic("x") }, "500 Internal Server Error", 1},
		"panic, recovery inside":  {nil, []any{recoverer.New()}, func(fiber.Ctx) error { panic("x") }, "500 Internal Server Error", 1},
		"error, logger outside":   {[]any{quiet}, nil, func(fiber.Ctx) error { return fiber.NewError(422, "no") }, "422 no", 1},
		"error, logger inside":    {nil, []any{quiet}, func(fiber.Ctx) error { return fiber.NewError(422, "no") }, "422 no", 1},
		"error of the next route": {nil, nil, func(c fiber.Ctx) error { return c.Next() }, "404 Not Found", 1},
		"from the beginning": {nil, nil, func(c fiber.Ctx) error {
			if c.Path() == "/again" {
				return c.SendString("again")
			}
			c.Path("/again")
			return c.RestartRouting()
		}, "200 again", 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, session.Config{})
			app := fiber.New(fiber.Config{ErrorHandler: fibersession.ErrorHandler(s.m, nil)})
			use := func(list []any) {
				for _, mw := range list {
					app.Use(mw)
				}
			}
			use(tt.outside)
			app.Use(fibersession.Middleware(s.m))
			use(tt.inside)
			app.All("*", func(c fiber.Ctx) error { add(t, c); return tt.h(c) })
			res := s.do(app, "GET", "/")
			body := strings.Replace(res.body, "Not Found.", "404", 1)
			mustEqual(t, "response", fmt.Sprint(res.StatusCode, " ", body), tt.response)
			mustEqual(t, "n", s.count(), tt.n)
		})
	}
}

// TestErrorsOfSessionsGoToTheErrorHandler: it gets a fiber.Error that wraps the cause. The response
// has what belongs to the error, and nothing of the handler's.
func TestErrorsOfSessionsGoToTheErrorHandler(t *testing.T) {
	down := func(s *site, c fiber.Ctx) error {
		add(t, c)
		s.store.down.Store(true)
		c.Set("ETag", `"x"`)
		c.Cookie(&fiber.Cookie{Name: "of-the-handler", Value: "x"})
		return nil
	}
	for name, tt := range map[string]struct {
		method  string
		h       func(s *site, c fiber.Ctx) error
		route   session.Route
		want    error
		headers string // one that the response must have
	}{
		"commit after a body": {"GET", func(s *site, c fiber.Ctx) error { return errors.Join(down(s, c), c.SendString("secret")) },
			session.Route{}, session.ErrUnavailable, "Retry-After"},
		"commit after a redirect": {"GET", func(s *site, c fiber.Ctx) error { return errors.Join(down(s, c), c.Redirect().To("/")) },
			session.Route{}, session.ErrUnavailable, "Retry-After"},
		"commit after a stream": {"GET", func(s *site, c fiber.Ctx) error {
			return errors.Join(down(s, c), c.SendStreamWriter(func(w *bufio.Writer) { w.WriteString("secret") }))
		}, session.Route{}, session.ErrUnavailable, "Retry-After"},
		"commit after an upgrade": {"GET", func(s *site, c fiber.Ctx) error {
			return errors.Join(down(s, c), upgrade(c, func(*websocket.Conn) { t.Error("the connection is taken over") }))
		},
			session.Route{}, session.ErrUnavailable, "Retry-After"},
		"cross-site": {"POST", down, session.Route{}, session.ErrCrossOrigin, ""},
		"route":      {"GET", down, session.Route{SignedIn: true}, session.ErrNotSignedIn, "WWW-Authenticate"},
		"handler":    {"GET", func(_ *site, c fiber.Ctx) error { add(t, c); return session.ErrNotFresh }, session.Route{}, session.ErrNotFresh, "WWW-Authenticate"},
		"status 500": {"GET", func(_ *site, c fiber.Ctx) error { add(t, c); return fmt.Errorf("%w: secret", session.ErrTooLarge) }, session.Route{}, session.ErrTooLarge, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var logged int
			s := newSite(t, session.Config{})
			app := fiber.New(fiber.Config{ErrorHandler: func(c fiber.Ctx, err error) error {
				var answer *fiber.Error
				if !errors.As(err, &answer) || !errors.Is(err, tt.want) {
					t.Errorf("the ErrorHandler gets %#v", err)
					return nil
				}
				return c.Status(answer.Code).JSON(err.Error())
			}})
			app.Use(logger.New(logger.Config{LoggerFunc: func(c fiber.Ctx, _ *logger.Data, _ *logger.Config) error {
				logged = c.Response().StatusCode()
				return nil
			}}))
			app.Use(func(c fiber.Ctx) error { c.Set("X-Outside", "stays"); return c.Next() })
			app.Use(fibersession.Middleware(s.m), fibersession.RouteMiddleware(tt.route))
			app.All("/", func(c fiber.Ctx) error { return tt.h(s, c) })
			res := s.do(app, tt.method, "/", append(handshake, "Sec-Fetch-Site", map[bool]string{true: "cross-site", false: "none"}[tt.method == "POST"])...)
			mustEqual(t, "response", fmt.Sprint(res.StatusCode, " ", res.body), fmt.Sprintf("%d %q", session.Status(tt.want), session.Message(tt.want)))
			mustEqual(t, "logged", logged, session.Status(tt.want))
			for _, gone := range []string{"Set-Cookie", "ETag", "Location", "Upgrade"} {
				mustEqual(t, gone, res.Header.Get(gone), "")
			}
			mustEqual(t, "X-Outside", res.Header.Get("X-Outside"), "stays")
			if tt.headers != "" && res.Header.Get(tt.headers) == "" {
				t.Errorf("header %v", res.Header)
			}
			mustEqual(t, "n", s.count(), 1)
		})
	}
}

var handshake = []string{
	"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
}

func upgrade(c fiber.Ctx, f func(*websocket.Conn)) error {
	return (&websocket.FastHTTPUpgrader{}).Upgrade(c.RequestCtx(), f)
}

// TestWebSocket: the response of the handshake brings the cookie of a new visitor, and what the
// connection's handler changes is stored by its own commits.
func TestWebSocket(t *testing.T) {
	for _, known := range []bool{true, false} {
		s := newSite(t, session.Config{})
		if !known {
			s.cookie = ""
		}
		app, done := fiber.New(), make(chan error, 1)
		app.Use(fibersession.Middleware(s.m))
		app.Get("/", func(c fiber.Ctx) error {
			ses, ctx := add(t, c), c.Context()
			return upgrade(c, func(*websocket.Conn) {
				n.Add(ses, 10)
				done <- ses.Commit(ctx)
			})
		})
		header := http.Header{"Sec-Fetch-Site": {"same-origin"}}
		if known {
			header.Set("Cookie", s.cookie)
		}
		conn, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(serve(t, app), "http"), header)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		conn.Close()
		want := int64(12)
		if !known {
			s.cookie, _, _ = strings.Cut(res.Header.Get("Set-Cookie"), ";")
			want = 11
		}
		mustEqual(t, "n", s.count(), want)
	}
}

// TestStream: what a stream changes is stored by its own commits, while the response is on its way.
// A stream cannot store a new session.
func TestStream(t *testing.T) {
	s := newSite(t, session.Config{})
	app, returned, errs := fiber.New(), make(chan bool), make(chan error, 1)
	app.Use(func(c fiber.Ctx) error { defer close(returned); return c.Next() }, fibersession.Middleware(s.m))
	app.Get("/", func(c fiber.Ctx) error {
		ses, err := fibersession.From(c)
		if err != nil {
			return err
		}
		ctx := c.Context()
		return c.SendStreamWriter(func(w *bufio.Writer) {
			<-returned
			for range 3 {
				n.Add(ses, 1)
				if err := ses.Commit(ctx); err != nil {
					errs <- err
					return
				}
				fmt.Fprint(w, n.Get(ses), ";")
				w.Flush()
			}
			errs <- nil
		})
	})
	url := serve(t, app)
	mustEqual(t, "body", s.doBody(url, "GET", "/", "").body, "2;3;4;")
	if err := <-errs; err != nil {
		t.Error(err)
	}
	mustEqual(t, "n", s.count(), 4)
	s.cookie, returned = "", make(chan bool)
	s.doBody(url, "GET", "/", "")
	if err := <-errs; !errors.Is(err, session.ErrHeaderSent) {
		t.Errorf("of a new visitor: %v", err)
	}
}

// TestPanicAfterASignIn: the token leaves, and the later change does not.
func TestPanicAfterASignIn(t *testing.T) {
	s, app := newSite(t, session.Config{}), fiber.New()
	app.Use(recoverer.New(), fibersession.Middleware(s.m))
	app.Get("/", func(c fiber.Ctx) error {
		ses, err := fibersession.From(c)
		if err == nil {
			err = ses.SignIn(c.Context(), session.Login{User: "ada"})
		}
		if err != nil {
			return err
		}
		n.Add(ses, 1)
		panic("x")
	})
	s.cookie, _, _ = strings.Cut(s.do(app, "GET", "/").Header.Get("Set-Cookie"), ";")
	s.direct(func(ses *session.Session) { mustEqual(t, "user and n", fmt.Sprint(ses.User(), n.Get(ses)), "ada0") })
}

// TestNestedMiddleware: the outer one commits, so a change between the two is in time for a cookie.
func TestNestedMiddleware(t *testing.T) {
	s, app := newSite(t, session.Config{}), fiber.New()
	s.cookie = ""
	app.Use(fibersession.Middleware(s.m), func(c fiber.Ctx) error {
		err := c.Next()
		add(t, c)
		return err
	}, fibersession.Middleware(s.m))
	app.Get("/", func(c fiber.Ctx) error { return c.SendString("ok") })
	res := s.do(app, "GET", "/")
	mustEqual(t, "response", fmt.Sprint(res.StatusCode, " ", res.body, len(res.Cookies())), "200 ok1")
}

// TestCompression: outside and inside, with a success and with a failed commit.
func TestCompression(t *testing.T) {
	page := strings.Repeat("a long page ", 100)
	for _, outside := range []bool{true, false} {
		for _, down := range []bool{true, false} {
			s, app := newSite(t, session.Config{}), fiber.New()
			if outside {
				app.Use(compress.New())
			}
			app.Use(fibersession.Middleware(s.m))
			if !outside {
				app.Use(compress.New())
			}
			app.Get("/", func(c fiber.Ctx) error {
				add(t, c)
				s.store.down.Store(down)
				return c.SendString(page)
			})
			res := s.do(app, "GET", "/", "Accept-Encoding", "gzip")
			got := res.body
			if res.Header.Get("Content-Encoding") == "gzip" {
				z, err := gzip.NewReader(strings.NewReader(res.body))
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(z)
				got = fmt.Sprint("gzip ", string(text), err)
			}
			want := "gzip " + page + "<nil>"
			if down {
				want = session.Message(session.ErrUnavailable)
			}
			mustEqual(t, fmt.Sprint("outside: ", outside), got, want)
			mustEqual(t, "n", s.count(), map[bool]int64{true: 1, false: 2}[down])
		}
	}
}

// TestHeadersAreMerged: with those of the handler.
func TestHeadersAreMerged(t *testing.T) {
	s := newSite(t, session.Config{})
	app := fiber.New()
	app.Use(fibersession.Middleware(s.m))
	app.Get("/", func(c fiber.Ctx) error {
		c.Set("Cache-Control", "private, max-age=60")
		c.Set("Surrogate-Control", "max-age=60")
		c.Set("Vary", "Accept")
		c.Cookie(&fiber.Cookie{Name: "a", Value: "b"})
		_, err := fibersession.From(c)
		if c.Query("change") != "" {
			add(t, c)
		}
		return err
	})
	app.Get("/ambiguous", func(c fiber.Ctx) error { _, err := fibersession.From(c); return err })
	url := serve(t, app)
	get := func(path string) http.Header { return s.doBody(url, "GET", path, "").Header }
	h := get("/")
	mustEqual(t, "without a cookie", fmt.Sprint(h["Cache-Control"], h["Surrogate-Control"], h["Vary"], len(h["Set-Cookie"])),
		"[private, max-age=60] [max-age=60] [Accept, Cookie] 1")
	known := s.cookie
	s.cookie = ""
	h = get("/?change=1")
	mustEqual(t, "with a cookie", fmt.Sprint(h["Cache-Control"], h["Surrogate-Control"], h["Vary"], len(h["Set-Cookie"])),
		"[no-store] [] [Accept, Cookie] 2")
	other, _, _ := strings.Cut(h["Set-Cookie"][1], ";")
	s.cookie = other + "; " + known
	res := s.doBody(url, "GET", "/ambiguous", "")
	mustEqual(t, "two tokens: status", res.StatusCode, 400)
	mustEqual(t, "two tokens: deleted cookies", len(res.Header["Set-Cookie"]), 4)
}

// TestCrossOriginAndCSRF: the checks of the middleware, by whatever way Fiber reads the request.
func TestCrossOriginAndCSRF(t *testing.T) {
	for name, cfg := range map[string]fiber.Config{
		"default": {}, "names as sent": {DisableHeaderNormalizing: true}, "streamed bodies": {StreamRequestBody: true}, "immutable": {Immutable: true},
	} {
		s := newSite(t, session.Config{CSRF: true})
		var token string
		s.direct(func(ses *session.Session) {
			var err error
			if token, err = ses.CSRFToken(context.Background()); err != nil {
				t.Fatal(err)
			}
		})
		app := fiber.New(cfg)
		app.Use(fibersession.Middleware(s.m))
		app.Post("/", func(c fiber.Ctx) error { add(t, c); return c.SendString(c.FormValue("name")) })
		url := serve(t, app)
		form := "name=ada&" + session.CSRFField + "="
		post := func(body string, header ...string) string {
			res := s.doBody(url, "POST", "/", body, append(header, "Content-Type", "application/x-www-form-urlencoded")...)
			return fmt.Sprint(res.StatusCode, " ", res.body)
		}
		wrong, right := "403 "+session.Message(session.ErrCSRF), "200 ada"
		mustEqual(t, name+": no token", post("name=ada", "Sec-Fetch-Site", "same-origin"), wrong)
		mustEqual(t, name+": header", post("name=ada", session.CSRFHeader, token), right)
		mustEqual(t, name+": cross-site", post(form+token, "Sec-Fetch-Site", "cross-site"), "403 "+session.Message(session.ErrCrossOrigin))
		mustEqual(t, name+": other origin", post(form+token, "Origin", "https://evil.example"), "403 "+session.Message(session.ErrCrossOrigin))
		mustEqual(t, name+": same origin", post(form+token, "Origin", url), map[bool]string{true: wrong, false: right}[cfg.StreamRequestBody])
	}
}

// TestNothingOfARequestIsKept: fasthttp overwrites the texts of a request with those of the next
// one on the same connection.
func TestNothingOfARequestIsKept(t *testing.T) {
	s := newSite(t, session.Config{MaxPerUser: 10})
	visits, kept := session.Map[string]("visits"), make(chan *session.Session, 1)
	app := fiber.New()
	app.Use(fibersession.Middleware(s.m))
	app.Get("/in/:user/:page", func(c fiber.Ctx) error {
		ses, err := fibersession.From(c)
		if err != nil {
			return err
		}
		visits.Set(ses, c.Params("page"), c.Get("User-Agent"))
		kept <- ses
		return ses.SignIn(c.Context(), session.Login{User: c.Params("user"), Methods: []string{c.Query("m")}, UserAgent: c.Get("User-Agent"), Device: c.Get("X-Device")})
	})
	app.All("/*", func(c fiber.Ctx) error { return c.SendStatus(204) })
	url := serve(t, app)
	client := &http.Client{Timeout: time.Minute}
	get := func(path, text string) http.Header {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", url+path, nil)
		r.Header.Set("User-Agent", text)
		r.Header.Set("X-Device", text)
		r.Header.Set("Cookie", s.cookie)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.Header
	}
	h := get("/in/ada/home?m=pwd", "firefox")
	ses := <-kept
	for range 10 {
		get("/xx/eve/evil?x=bad", "badbadx")
	}
	mustEqual(t, "the Session that was kept", ses.User(), "ada")
	for key, v := range visits.All(ses) {
		mustEqual(t, "its entry", key+" "+v, "home firefox")
	}
	for info, err := range s.m.Sessions(t.Context(), "ada") {
		mustEqual(t, "the login", fmt.Sprint(info.User, info.Methods, info.UserAgent, info.Device, err), "ada[pwd]firefoxfirefox<nil>")
	}
	s.cookie, _, _ = strings.Cut(h.Get("Set-Cookie"), ";")
	s.direct(func(ses *session.Session) {
		mustEqual(t, "the stored user", ses.User(), "ada")
		v, ok := visits.Get(ses, "home")
		mustEqual(t, "the stored entry", fmt.Sprint(v, " ", ok), "firefox true")
	})
}
