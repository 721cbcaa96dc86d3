package main

import (
	"net/http"

	"github.com/coatcheck-go/session"
	ginsession "github.com/coatcheck-go/session/adapters/gin"
	"github.com/gin-gonic/gin"
)

// newGin serves the recipes with gin.
func newGin(sessions *session.Manager) http.Handler {
	r := gin.New()
	r.Use(ginsession.Middleware(sessions))
	r.POST("/sign-in", ginHandler(signIn))
	r.POST("/sign-out", ginHandler(signOut))
	r.POST("/click", ginHandler(click))
	open := ginsession.RouteMiddleware(members)
	r.GET("/events", open, ginHandler(events))
	r.GET("/coder", open, ginHandler(coderSocket))
	r.GET("/gorilla", open, ginHandler(gorillaSocket))
	return r
}

// ginHandler returns a handler of gin that calls f.
func ginHandler(f recipe) gin.HandlerFunc {
	return ginsession.Handler(func(c *gin.Context, s *session.Session) error {
		return f(c.Writer, c.Request, s)
	})
}
