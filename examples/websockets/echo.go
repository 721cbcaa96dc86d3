package main

import (
	"net/http"

	"github.com/coatcheck-go/session"
	echosession "github.com/coatcheck-go/session/adapters/echo"
	"github.com/labstack/echo/v5"
)

// newEcho serves the recipes with Echo v5.
func newEcho(sessions *session.Manager) http.Handler {
	e := echo.New()
	e.Use(echosession.Middleware(sessions))
	e.POST("/sign-in", echoHandler(signIn))
	e.POST("/sign-out", echoHandler(signOut))
	e.POST("/click", echoHandler(click))
	open := echosession.RouteMiddleware(members)
	e.GET("/events", echoHandler(events), open)
	e.GET("/coder", echoHandler(coderSocket), open)
	e.GET("/gorilla", echoHandler(gorillaSocket), open)
	return e
}

// echoHandler returns a handler of Echo v5 that calls f.
func echoHandler(f recipe) echo.HandlerFunc {
	return echosession.Handler(func(c *echo.Context, s *session.Session) error {
		return f(c.Response(), c.Request(), s)
	})
}
