package fibersession

import (
	"context"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/gofiber/fiber/v3"
)

// exchange is one request in the middleware.
type exchange struct {
	c      fiber.Ctx
	m      *session.Manager
	ctx    context.Context // of the session
	panics bool            // the handlers have not returned
}

// finish commits, or drops what a handler that returned err has changed. It returns the
// error for the ErrorHandler.
func (x *exchange) finish(err error) error {
	if err != nil {
		ok, answer := answerable(err)
		if !ok {
			err = nil // the application logs it
		}
		x.write(x.m.Fail(x.ctx, err))
		return answer
	}
	h, err := x.m.Commit(x.ctx)
	if err != nil {
		x.dropResponse()
	}
	x.write(h)
	_, err = answerable(err)
	return err
}

// refuse answers a request that the Manager refused.
func (x *exchange) refuse(err error) error {
	x.write(x.m.Fail(x.ctx, err))
	_, err = answerable(err)
	return err
}

// unwind drops what a handler that panicked has changed.
func (x *exchange) unwind() {
	if x.panics {
		x.write(x.m.Fail(x.ctx, nil))
	}
}

// write adds to the response header what the session has to say.
func (x *exchange) write(h http.Header) {
	header := &x.c.Response().Header
	for name, values := range h {
		switch name {
		case "Set-Cookie":
			for _, v := range values {
				header.Add(name, v)
			}
		case "Vary":
			x.c.Vary(values...)
		case "Cache-Control":
			x.cache(values[0])
		default:
			header.Set(name, values[0])
		}
	}
}

// cache sets Cache-Control. Only what forbids a cache to keep a cookie replaces the handler's own.
func (x *exchange) cache(value string) {
	header := &x.c.Response().Header
	if value != "no-store" && len(header.Peek("Cache-Control")) > 0 {
		return
	}
	header.Set("Cache-Control", value)
	if value == "no-store" {
		header.Del("Cdn-Cache-Control")
		header.Del("Surrogate-Control")
	}
}

// dropResponse drops the response of the handlers, and their taking over of the connection. What
// the middleware outside has set stays.
func (x *exchange) dropResponse() {
	res := x.c.Response()
	for _, name := range bodyHeaders {
		res.Header.Del(name)
	}
	res.Header.DelAllCookies()
	res.ResetBody()
	res.ImmediateHeaderFlush = false
	res.SetStatusCode(fiber.StatusOK)
	x.c.RequestCtx().Hijack(nil)
}

// bodyHeaders belong to a body, a success or a handshake, and not to the error that replaces it.
var bodyHeaders = []string{
	"Accept-Ranges", "Cache-Control", "Cdn-Cache-Control", "Clear-Site-Data", "Connection", "Content-Disposition",
	"Content-Encoding", "Content-Language", "Content-Length", "Content-Location", "Content-Range", "Content-Type", "Etag",
	"Expires", "Last-Modified", "Location", "Refresh", "Sec-Websocket-Accept", "Sec-Websocket-Extensions",
	"Sec-Websocket-Protocol", "Surrogate-Control", "Trailer", "Upgrade",
}
