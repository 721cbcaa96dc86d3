package matrix_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/coatcheck-go/session"
	echosession "github.com/coatcheck-go/session/adapters/echo"
)

// startEcho serves the app by Echo v5, with Echo's own middleware.
func startEcho(t *testing.T, a *app) string {
	e := echo.New()
	e.Logger = slog.New(slog.DiscardHandler)
	logger := middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
		LogStatus: true, HandleError: true, // as Echo's examples have it
		LogValuesFunc: func(_ *echo.Context, v middleware.RequestLoggerValues) error { a.logged(v.Status); return nil },
	})
	e.HTTPErrorHandler = echosession.ErrorHandler(a.managers[0], e.HTTPErrorHandler)
	use := func(is, at place, mw echo.MiddlewareFunc) {
		if is == at {
			e.Use(mw)
		}
	}
	use(a.logger, outside, logger)
	use(a.recovery, outside, middleware.Recover())
	use(a.compression, outside, middleware.Gzip())
	for _, m := range a.managers {
		e.Use(echosession.Middleware(m))
	}
	use(a.compression, inside, middleware.Gzip())
	use(a.recovery, inside, middleware.Recover())
	use(a.logger, inside, logger)
	e.Any("/", func(c *echo.Context) error { return a.handle(&echoExchange{c}) }, echosession.RouteMiddleware(a.route))
	e.File("/static", fileName)
	return startHTTP(t, e)
}

type echoExchange struct{ c *echo.Context }

func (x *echoExchange) Context() context.Context            { return x.c.Request().Context() }
func (x *echoExchange) Session() (*session.Session, error)  { return echosession.From(x.c) }
func (x *echoExchange) Text(status int, text string) error  { return x.c.String(status, text) }
func (x *echoExchange) Empty(status int) error              { return x.c.NoContent(status) }
func (x *echoExchange) Redirect(to string) error            { return x.c.Redirect(http.StatusSeeOther, to) }
func (x *echoExchange) Fail(status int) error               { return echo.NewHTTPError(status, "refused") }
func (x *echoExchange) Upgrade(f func(io.ReadWriter)) error { return hijack(x.c.Response(), f) }

func (x *echoExchange) Stream(f func(send func(string) error) error) error {
	return streamHTTP(x.c.Response(), f)
}
