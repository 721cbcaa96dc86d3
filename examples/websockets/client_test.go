package main

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	coder "github.com/coder/websocket"
	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	gorilla "github.com/gorilla/websocket"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	heartbeat = 20 * time.Millisecond
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node is a process of the site.
type node struct {
	sessions *session.Manager
	url      string
}

func testConfig() session.Config {
	return session.Config{
		Logger: slog.New(slog.DiscardHandler), Cookie: session.Cookie{Insecure: true}, CrossOrigin: http.NewCrossOriginProtection(),
		CommitTimeout: 30 * time.Second,
	}
}

func startNode(t *testing.T, redis, framework string) node {
	t.Helper()
	store, err := redisstore.Open(t.Context(), redis, redisstore.Options{Logger: slog.New(slog.DiscardHandler), Timeout: 30 * time.Second})
	must(t, err)
	t.Cleanup(func() { store.Close() })
	sessions, err := session.New(store, testConfig())
	must(t, err)
	return node{sessions, serve(t, framework, sessions, 0)}
}

// serve starts a server and returns its URL.
func serve(t *testing.T, framework string, sessions *session.Manager, writeTimeout time.Duration) string {
	t.Helper()
	if framework != "fiber" {
		server := httptest.NewUnstartedServer(handlers[framework](sessions))
		server.Config.WriteTimeout = writeTimeout
		server.Start()
		t.Cleanup(server.Close)
		return server.URL
	}
	app := newFiber(sessions)
	app.Server().WriteTimeout = writeTimeout
	app.Server().MaxIdleWorkerDuration = 10 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- app.Listener(l, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() { must(t, app.Shutdown()); must(t, <-served) })
	return "http://" + l.Addr().String()
}

// browser is a client with a session.
type browser struct{ *http.Client }

func signInAt(t *testing.T, n node) browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	b := browser{&http.Client{Jar: jar, Transport: &http.Transport{}}}
	t.Cleanup(b.CloseIdleConnections)
	b.mustPost(t, n.url+"/sign-in", url.Values{"user": {"ada"}})
	return b
}

func (b browser) mustPost(t testing.TB, to string, values url.Values) {
	t.Helper()
	res, err := b.PostForm(to, values)
	must(t, err)
	must(t, res.Body.Close())
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", to, res.Status)
	}
}

// stream is an open response. Its function read calls got with what the response sends, until it
// ends. "ended" stands for the event or the status code that says so.
type stream struct {
	path string
	over func(ctx context.Context, t testing.TB, b browser, url string, got func(string))
}

func (s stream) read(ctx context.Context, t testing.TB, b browser, at string, got func(string)) {
	s.over(ctx, t, b, at+s.path, got)
}

var (
	overEvents = stream{"/events", readEvents}
	onHTTP     = []stream{overEvents, {"/coder", readCoder}, {"/gorilla", readGorilla}}

	// frameworks have these streams.
	frameworks = map[string][]stream{
		"net/http": onHTTP, "echo": onHTTP, "echov4": onHTTP, "gin": onHTTP,
		"fiber": {overEvents, {"/socket", readCoder}, {"/socket", readGorilla}},
	}
)

// sockets returns the paths of the WebSockets.
func sockets(streams []stream) []string {
	if streams[1].path == streams[2].path {
		return []string{streams[1].path}
	}
	return []string{streams[1].path, streams[2].path}
}

func readEvents(ctx context.Context, t testing.TB, b browser, at string, got func(string)) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	must(t, err)
	res, err := b.Do(r)
	if err != nil {
		t.Error(err)
		return
	}
	defer res.Body.Close()
	event := ""
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
		} else if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && event == "clicks" {
			got(data)
		} else if ok {
			got(event)
		}
	}
}

func readCoder(ctx context.Context, t testing.TB, b browser, at string, got func(string)) {
	conn, _, err := coder.Dial(ctx, at, &coder.DialOptions{HTTPClient: b.Client})
	if err != nil {
		t.Error(err)
		return
	}
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			if coder.CloseStatus(err) == coder.StatusPolicyViolation {
				got("ended")
			}
			return
		}
		got(strings.TrimSpace(string(message)))
	}
}

func readGorilla(ctx context.Context, t testing.TB, b browser, at string, got func(string)) {
	conn := dialGorilla(ctx, t, b, at)
	if conn == nil {
		return
	}
	defer conn.Close()
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			if gorilla.IsCloseError(err, gorilla.ClosePolicyViolation) {
				got("ended")
			}
			return
		}
		got(strings.TrimSpace(string(message)))
	}
}

func dialGorilla(ctx context.Context, t testing.TB, b browser, at string) *gorilla.Conn {
	d := gorilla.Dialer{Jar: b.Jar}
	conn, _, err := d.DialContext(ctx, "ws"+strings.TrimPrefix(at, "http"), nil)
	if err != nil {
		t.Error(err)
	}
	return conn
}
