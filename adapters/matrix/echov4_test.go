package matrix_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/coatcheck-go/session"
	echosession "github.com/coatcheck-go/session/adapters/echov4"
)

// startEchoV4 serves the app by Echo v4, with Echo's own middleware.
func startEchoV4(t *testing.T, a *app) string {
	e := echo.New()
	e.Logger.SetOutput(io.Discard)
	logger := middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
		LogStatus: true, HandleError: true, // as Echo's examples have it
		LogValuesFunc: func(_ echo.Context, v middleware.RequestLoggerValues) error { a.logged(v.Status); return nil },
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
	e.Any("/", func(c echo.Context) error { return a.handle(&echoV4Exchange{c}) }, echosession.RouteMiddleware(a.route))
	e.File("/static", fileName)
	return startHTTP(t, e)
}

type echoV4Exchange struct{ c echo.Context }

func (x *echoV4Exchange) Context() context.Context            { return x.c.Request().Context() }
func (x *echoV4Exchange) Session() (*session.Session, error)  { return echosession.From(x.c) }
func (x *echoV4Exchange) Text(status int, text string) error  { return x.c.String(status, text) }
func (x *echoV4Exchange) Empty(status int) error              { return x.c.NoContent(status) }
func (x *echoV4Exchange) Redirect(to string) error            { return x.c.Redirect(http.StatusSeeOther, to) }
func (x *echoV4Exchange) Fail(status int) error               { return echo.NewHTTPError(status, "refused") }
func (x *echoV4Exchange) Upgrade(f func(io.ReadWriter)) error { return hijack(x.c.Response(), f) }

func (x *echoV4Exchange) Stream(f func(send func(string) error) error) error {
	return streamHTTP(x.c.Response(), f)
}
