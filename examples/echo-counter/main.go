// Command echo-counter counts the visits of each visitor, on Echo and Redis. Echo and the sessions
// log by slog, the application logs by logrus. Each line about a known visitor has the session's
// handle.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"
	"github.com/sirupsen/logrus"

	"github.com/coatcheck-go/session"
	echosession "github.com/coatcheck-go/session/adapters/echo"
	"github.com/coatcheck-go/session/redisstore"
)

const views session.Counter = "views"

func main() {
	address := flag.String("address", "localhost:8080", "where to listen")
	redis := flag.String("redis", "redis://localhost", "the URL of Redis")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *address, *redis, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx is cancelled.
func run(ctx context.Context, address, redis string, out io.Writer) error {
	logger := slog.New(session.LogHandler(slog.NewJSONHandler(out, nil)))
	store, err := redisstore.Open(ctx, redis, redisstore.Options{Logger: logger})
	if err != nil {
		return err
	}
	defer store.Close()
	sessions, err := session.New(store, session.Config{Logger: logger})
	if err != nil {
		return err
	}
	app := logrus.New()
	app.SetOutput(out)
	app.SetFormatter(&logrus.JSONFormatter{})
	app.AddHook(sessionHook{})

	e := echo.New()
	e.Logger = logger
	e.Use(requestLogger(logger), middleware.Recover(), echosession.Middleware(sessions))
	e.GET("/", echosession.Handler(func(c *echo.Context, s *session.Session) error {
		count := views.Get(s)
		views.Add(s, 1)
		app.WithContext(c.Request().Context()).WithField("views", count).Info("visit")
		return c.String(http.StatusOK, fmt.Sprintf("Hello World #%d\n", count))
	}))
	return echo.StartConfig{Address: address, HideBanner: true}.Start(ctx, e)
}

// requestLogger logs each request with its context, from which session.LogHandler gets the handle.
// Echo's own middleware.RequestLogger logs without it.
func requestLogger(logger *slog.Logger) echo.MiddlewareFunc {
	return middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
		LogMethod: true, LogURI: true, LogStatus: true, LogLatency: true, HandleError: true,
		LogValuesFunc: func(c *echo.Context, v middleware.RequestLoggerValues) error {
			attrs := []slog.Attr{slog.String("method", v.Method), slog.String("uri", v.URI),
				slog.Int("status", v.Status), slog.Duration("latency", v.Latency)}
			if v.Error != nil {
				attrs = append(attrs, slog.Any("error", v.Error))
			}
			logger.LogAttrs(c.Request().Context(), slog.LevelInfo, "request", attrs...)
			return nil
		},
	})
}

// sessionHook adds the session's handle to entries of logrus that have a request's context, as
// session.LogHandler does for slog.
type sessionHook struct{}

// Levels implements logrus.Hook.
func (sessionHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (sessionHook) Fire(e *logrus.Entry) error {
	if e.Context == nil {
		return nil
	}
	return session.LogHandler(fields{data: e.Data}).Handle(e.Context, slog.Record{})
}

// fields is a slog.Handler that copies attributes to an entry of logrus.
type fields struct {
	slog.Handler
	data logrus.Fields
}

// Handle implements slog.Handler.
func (f fields) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		f.data[a.Key] = a.Value.String()
		return true
	})
	return nil
}
