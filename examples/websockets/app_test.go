package main

import (
	"bufio"
	"context"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

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

func startNode(t *testing.T, redis string) node {
	t.Helper()
	store, err := redisstore.Open(t.Context(), redis, redisstore.Options{})
	must(t, err)
	sessions, err := session.New(store, session.Config{
		Logger: slog.New(slog.DiscardHandler), Cookie: session.Cookie{Insecure: true}, CrossOrigin: http.NewCrossOriginProtection(),
	})
	must(t, err)
	server := httptest.NewServer(newHandler(sessions))
	t.Cleanup(func() { server.Close(); store.Close() })
	return node{sessions, server.URL}
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

// stream returns what an open response sends, until it ends.
type stream func(ctx context.Context, t testing.TB, b browser, at string, got func(string))

func overEvents(ctx context.Context, t testing.TB, b browser, at string, got func(string)) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/events", http.NoBody)
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
		} else if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			got(strings.TrimPrefix(event+" "+data, "clicks "))
		}
	}
}

func overCoder(ctx context.Context, t testing.TB, b browser, at string, got func(string)) {
	conn, _, err := coder.Dial(ctx, at+"/coder", &coder.DialOptions{HTTPClient: b.Client})
	if err != nil {
		t.Error(err)
		return
	}
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			if coder.CloseStatus(err) == coder.StatusPolicyViolation {
				got("ended 0")
			}
			return
		}
		got(string(message))
	}
}

func overGorilla(ctx context.Context, t testing.TB, b browser, at string, got func(string)) {
	d := gorilla.Dialer{Jar: b.Jar}
	conn, _, err := d.DialContext(ctx, "ws"+strings.TrimPrefix(at, "http")+"/gorilla", nil)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			if gorilla.IsCloseError(err, gorilla.ClosePolicyViolation) {
				got("ended 0")
			}
			return
		}
		got(strings.TrimSpace(string(message)))
	}
}

// TestOpenResponsesEndWithTheUser opens 100 streams of server-sent events and 100 WebSockets of one
// user on two nodes. All see a click on one node. Then the user is revoked. All end, and tell the
// client why. No goroutine is left.
func TestOpenResponsesEndWithTheUser(t *testing.T) {
	redis := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	nodes := []node{startNode(t, redis), startNode(t, redis)}
	b := signInAt(t, nodes[0])
	b.mustPost(t, nodes[1].url+"/click", nil)
	b.CloseIdleConnections()
	before := runtime.NumGoroutine()

	kinds := []stream{overEvents, overEvents, overCoder, overGorilla}
	var opened, clicked, all sync.WaitGroup
	const responses = 200
	opened.Add(responses)
	clicked.Add(responses)
	ended := make([]time.Time, responses)
	for i := range responses {
		all.Go(func() {
			kinds[i%4](t.Context(), t, b, nodes[i/4%2].url, func(message string) {
				switch message {
				case "1":
					opened.Done()
				case "2":
					clicked.Done()
				case "ended 0":
					ended[i] = time.Now()
				default:
					t.Errorf("response %d sent %q", i, message)
				}
			})
		})
	}
	opened.Wait()
	b.mustPost(t, nodes[1].url+"/click", nil)
	clicked.Wait()
	revoked := time.Now()
	_, err := nodes[1].sessions.RevokeUser(t.Context(), "ada")
	must(t, err)
	all.Wait()
	last := time.Duration(0)
	for i, at := range ended {
		if at.IsZero() {
			t.Errorf("response %d ended without a word", i)
		}
		last = max(last, at.Sub(revoked))
	}
	t.Logf("the last response ended after %v", last)
	b.CloseIdleConnections()
	for range 500 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("%d goroutines are left of %d\n%s", runtime.NumGoroutine()-before, before, stacks[:runtime.Stack(stacks, true)])
}

// TestClicksOverAWebSocket: what one client sends over its WebSocket, all see.
func TestClicksOverAWebSocket(t *testing.T) {
	redis := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	a, b := startNode(t, redis), startNode(t, redis)
	visitor := signInAt(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan string, 10)
	open := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		overEvents(ctx, t, visitor, b.url, func(message string) {
			if message == "0" {
				close(open)
			}
			seen <- message
		})
	})
	<-open
	conn, _, err := coder.Dial(ctx, a.url+"/coder", &coder.DialOptions{HTTPClient: visitor.Client})
	must(t, err)
	must(t, conn.Write(ctx, coder.MessageText, []byte("click")))
	for _, want := range []string{"0", "1"} {
		_, message, err := conn.Read(ctx)
		must(t, err)
		if got := string(message); got != want {
			t.Errorf("the WebSocket sent %q, want %q", got, want)
		}
		if got := <-seen; got != want {
			t.Errorf("the stream sent %q, want %q", got, want)
		}
	}
	must(t, conn.Close(coder.StatusNormalClosure, ""))
	cancel()
	all.Wait()
}
