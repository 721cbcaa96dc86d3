package main

import (
	"net/http"

	"github.com/coatcheck-go/session"
	echosession "github.com/coatcheck-go/session/adapters/echov4"
	"github.com/labstack/echo/v4"
)

// newEchoV4 serves the recipes with Echo v4.
func newEchoV4(sessions *session.Manager) http.Handler {
	e := echo.New()
	e.Use(echosession.Middleware(sessions))
	e.POST("/sign-in", echoV4Handler(signIn))
	e.POST("/sign-out", echoV4Handler(signOut))
	e.POST("/click", echoV4Handler(click))
	open := echosession.RouteMiddleware(members)
	e.GET("/events", echoV4Handler(events), open)
	e.GET("/coder", echoV4Handler(coderSocket), open)
	e.GET("/gorilla", echoV4Handler(gorillaSocket), open)
	return e
}

// echoV4Handler returns a handler of Echo v4 that calls f.
func echoV4Handler(f recipe) echo.HandlerFunc {
	return echosession.Handler(func(c echo.Context, s *session.Session) error {
		return f(c.Response(), c.Request(), s)
	})
}
