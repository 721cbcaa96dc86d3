package matrix_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/gin-contrib/gzip"
	"github.com/gin-gonic/gin"

	"github.com/coatcheck-go/session"
	ginsession "github.com/coatcheck-go/session/adapters/gin"
)

// startGin serves the app by gin, with gin's own middleware, and one that answers errors as gin's
// documentation does.
func startGin(t *testing.T, a *app) string {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	logger := gin.LoggerWithConfig(gin.LoggerConfig{
		Output: io.Discard, Formatter: func(p gin.LogFormatterParams) string { a.logged(p.StatusCode); return "" },
	})
	use := func(is, at place, mw gin.HandlerFunc) {
		if is == at {
			r.Use(mw)
		}
	}
	use(a.logger, outside, logger)
	use(a.recovery, outside, gin.RecoveryWithWriter(nil))
	r.Use(ginErrors)
	use(a.compression, outside, gzip.Gzip(gzip.BestSpeed))
	for _, m := range a.managers {
		r.Use(ginsession.Middleware(m))
	}
	use(a.compression, inside, gzip.Gzip(gzip.BestSpeed))
	use(a.recovery, inside, gin.RecoveryWithWriter(nil))
	use(a.logger, inside, logger)
	r.StaticFile("/static", fileName)
	r.Any("/", ginsession.RouteMiddleware(a.route), func(c *gin.Context) {
		if err := a.handle(&ginExchange{c}); err != nil {
			session.Error(c.Writer, c.Request, err)
		}
	})
	return startHTTP(t, r)
}

// ginErrors answers the last error of a request.
func ginErrors(c *gin.Context) {
	c.Next()
	if len(c.Errors) > 0 && !c.Writer.Written() {
		c.JSON(c.Writer.Status(), gin.H{"error": c.Errors.Last().Error()})
	}
}

type ginExchange struct{ c *gin.Context }

func (x *ginExchange) Context() context.Context            { return x.c.Request.Context() }
func (x *ginExchange) Session() (*session.Session, error)  { return ginsession.From(x.c) }
func (x *ginExchange) Text(status int, text string) error  { x.c.String(status, "%s", text); return nil }
func (x *ginExchange) Empty(status int) error              { x.c.Status(status); return nil }
func (x *ginExchange) Redirect(to string) error            { x.c.Redirect(http.StatusSeeOther, to); return nil }
func (x *ginExchange) Fail(status int) error               { return statusError(status) }
func (x *ginExchange) Upgrade(f func(io.ReadWriter)) error { return hijack(x.c.Writer, f) }

func (x *ginExchange) Stream(f func(send func(string) error) error) error {
	return streamHTTP(x.c.Writer, f)
}
