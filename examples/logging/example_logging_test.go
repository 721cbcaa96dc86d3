package logging

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

const views session.Counter = "views"

// sessionHook adds the session's handle to the lines of logrus.
type sessionHook struct{}

func (sessionHook) Levels() []logrus.Level { return logrus.AllLevels }

func (sessionHook) Fire(e *logrus.Entry) error {
	if e.Context == nil {
		return nil
	}
	if handle := session.HandleFrom(e.Context); handle != "" {
		e.Data["session"] = handle
	}
	return nil
}

// withSession returns a logger that adds the session's handle to each line.
func withSession(ctx context.Context, log *zap.Logger) *zap.Logger {
	if handle := session.HandleFrom(ctx); handle != "" {
		return log.With(zap.String("session", handle))
	}
	return log
}

// visit makes a request of a new visitor inside the middleware.
func visit(f func(ctx context.Context) error) (handle string) {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	h := session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		views.Add(s, 1)
		if err := s.Commit(r.Context()); err != nil {
			return err
		}
		handle = s.Info().Handle
		return f(r.Context())
	})
	sessions.Handler(h).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	return handle
}

func Example_logrus() {
	log := logrus.New()
	log.AddHook(sessionHook{})
	log.SetOutput(io.Discard)
	visit(func(ctx context.Context) error {
		log.WithContext(ctx).Info("paid")
		return nil
	})
	fmt.Println("logged")
	// Output: logged
}

func Example_zap() {
	log := zap.NewNop()
	visit(func(ctx context.Context) error {
		withSession(ctx, log).Info("paid")
		return nil
	})
	fmt.Println("logged")
	// Output: logged
}

// TestLinesHaveTheHandle: each line of a known visitor has the handle, and a line outside of
// requests has none.
func TestLinesHaveTheHandle(t *testing.T) {
	var out strings.Builder
	ofLogrus := logrus.New()
	ofLogrus.AddHook(sessionHook{})
	ofLogrus.SetOutput(&out)
	ofZap := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zap.InfoLevel))
	handle := visit(func(ctx context.Context) error {
		ofLogrus.WithContext(ctx).Info("one")
		withSession(ctx, ofZap).Info("two")
		return nil
	})
	ofLogrus.WithContext(t.Context()).Info("three")
	ofLogrus.Info("four")
	withSession(t.Context(), ofZap).Info("five")
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{"session=" + handle, `"session":"` + handle + `"`} {
		if handle == "" || !strings.Contains(lines[i], want) {
			t.Errorf("%q lacks %s", lines[i], want)
		}
	}
	for _, line := range lines[2:] {
		if strings.Contains(line, "session") {
			t.Errorf("outside a request: %s", line)
		}
	}
}
