package main

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

// TestOpenResponsesEndWithTheUser opens streams of server-sent events and WebSockets of one user on
// two nodes. All see a click on one node. Then the session ends on that node. All end, and tell the
// client why. No goroutine is left.
func TestOpenResponsesEndWithTheUser(t *testing.T) {
	redis := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	ends := map[string]func(testing.TB, node, browser){
		"revocation": func(t testing.TB, n node, _ browser) {
			_, err := n.sessions.RevokeUser(t.Context(), "ada")
			must(t, err)
		},
		"sign-out": func(t testing.TB, n node, b browser) { b.mustPost(t, n.url+"/sign-out", nil) },
	}
	for framework, streams := range frameworks {
		for name, end := range ends {
			t.Run(framework+"/"+name, func(t *testing.T) {
				responses := 24
				if framework == "net/http" && name == "revocation" {
					responses = 204
				}
				nodes := []node{startNode(t, redis, framework), startNode(t, redis, framework)}
				endsAll(t, nodes, streams, responses, end)
			})
		}
	}
}

func endsAll(t *testing.T, nodes []node, streams []stream, responses int, end func(testing.TB, node, browser)) {
	b := signInAt(t, nodes[0])
	b.mustPost(t, nodes[1].url+"/click", nil)
	b.CloseIdleConnections()
	before := runtime.NumGoroutine()

	var opened, clicked, all sync.WaitGroup
	opened.Add(responses)
	clicked.Add(responses)
	ended := make([]time.Time, responses)
	for i := range responses {
		all.Go(func() {
			open, click := sync.OnceFunc(opened.Done), sync.OnceFunc(clicked.Done)
			defer open() // a response that fails keeps nobody waiting
			defer click()
			streams[i%len(streams)].read(t.Context(), t, b, nodes[i/len(streams)%2].url, func(message string) {
				switch message {
				case "0": // a node's copy may be older for a moment
				case "1":
					open()
				case "2":
					click()
				case "ended":
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
	began := time.Now()
	end(t, nodes[1], b)
	all.Wait()
	last := time.Duration(0)
	for i, at := range ended {
		if at.IsZero() {
			t.Errorf("response %d ended without a word", i)
		}
		last = max(last, at.Sub(began))
	}
	t.Logf("the last response ended after %v", last)
	b.CloseIdleConnections()
	mustEnd(t, func() bool { return runtime.NumGoroutine() <= before })
}

// mustEnd waits until the goroutines that done asks for have ended.
func mustEnd(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Errorf("goroutines are left:\n%s", stacks())
}

func stacks() string {
	all := make([]byte, 1<<20)
	return string(all[:runtime.Stack(all, true)])
}

// TestClicksOverAWebSocket: what one client sends over its WebSocket, all see.
func TestClicksOverAWebSocket(t *testing.T) {
	redis := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	for framework, streams := range frameworks {
		for _, path := range sockets(streams) {
			t.Run(framework+path, func(t *testing.T) {
				clickOver(t, startNode(t, redis, framework), startNode(t, redis, framework), path)
			})
		}
	}
}

// clickOver sends a click over a WebSocket of one node. A stream of the other node sends it, too.
func clickOver(t *testing.T, a, b node, path string) {
	visitor := signInAt(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan string, 10)
	open := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		overEvents.read(ctx, t, visitor, b.url, func(message string) {
			if message == "0" {
				close(open)
			}
			seen <- message
		})
	})
	<-open
	conn, _, err := coder.Dial(ctx, a.url+path, &coder.DialOptions{HTTPClient: visitor.Client})
	must(t, err)
	mustSee := func(want string) {
		t.Helper()
		_, message, err := conn.Read(ctx)
		must(t, err)
		if got := strings.TrimSpace(string(message)); got != want {
			t.Errorf("the WebSocket sent %q, want %q", got, want)
		}
		if got := <-seen; got != want {
			t.Errorf("the stream sent %q, want %q", got, want)
		}
	}
	mustSee("0")
	must(t, conn.Write(ctx, coder.MessageText, []byte("click")))
	mustSee("1")
	must(t, conn.Close(coder.StatusNormalClosure, ""))
	cancel()
	all.Wait()
}

// TestWebSocketsEndWhileTheirClientsSend: a client that is sending gets the status code, too.
// Unread messages must not make TCP reset the connection.
func TestWebSocketsEndWhileTheirClientsSend(t *testing.T) {
	for framework, streams := range frameworks {
		for _, path := range sockets(streams) {
			t.Run(framework+path, func(t *testing.T) {
				sessions, err := session.New(memstore.New(), testConfig())
				must(t, err)
				n := node{sessions, serve(t, framework, sessions, 0)}
				b := signInAt(t, n)
				var all, busy sync.WaitGroup
				busy.Add(4)
				for range 4 {
					all.Go(func() { clickUntilTheEnd(t, dialGorilla(t.Context(), t, b, n.url+path), busy.Done) })
				}
				busy.Wait()
				must(t, sessions.RevokeAll(t.Context()))
				all.Wait()
			})
		}
	}
}

// clickUntilTheEnd sends clicks until the server closes the connection, up to 100 ahead of the
// answers. It calls busy once, when it has got an answer.
func clickUntilTheEnd(t *testing.T, conn *gorilla.Conn, busy func()) {
	if conn == nil {
		busy()
		return
	}
	var writer sync.WaitGroup
	ahead, closed := make(chan struct{}, 100), make(chan struct{})
	writer.Go(func() {
		for conn.WriteMessage(gorilla.TextMessage, []byte("click")) == nil {
			select {
			case ahead <- struct{}{}:
			case <-closed:
				return
			}
		}
	})
	for answers := 0; ; answers++ {
		if _, _, err := conn.ReadMessage(); err != nil {
			if !gorilla.IsCloseError(err, gorilla.ClosePolicyViolation) {
				t.Errorf("the client got %v", err)
			}
			break
		}
		if answers == 1 {
			busy()
		}
		select {
		case <-ahead:
		default:
		}
	}
	close(closed)
	must(t, conn.Close())
	writer.Wait()
}

// TestRefusedHandshakes checks the responses to requests that do not get a WebSocket.
func TestRefusedHandshakes(t *testing.T) {
	for framework, streams := range frameworks {
		sessions, err := session.New(memstore.New(), testConfig())
		must(t, err)
		n := node{sessions, serve(t, framework, sessions, 0)}
		member, stranger := signInAt(t, n), browser{&http.Client{}}
		for _, path := range sockets(streams) {
			for _, tt := range []struct {
				name   string
				b      browser
				header http.Header
				want   []int
			}{
				{"of a stranger", stranger, http.Header{"Upgrade": {"websocket"}}, []int{http.StatusUnauthorized}},
				{"of another site", member, http.Header{"Upgrade": {"websocket"}, "Origin": {"https://evil.example"}}, []int{http.StatusForbidden}},
				{"without an upgrade", member, nil, []int{http.StatusBadRequest, http.StatusUpgradeRequired}},
			} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url+path, http.NoBody)
				must(t, err)
				if tt.header != nil {
					r.Header = tt.header
					r.Header.Set("Connection", "Upgrade")
					r.Header.Set("Sec-WebSocket-Version", "13")
					r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
				}
				res, err := tt.b.Do(r)
				must(t, err)
				must(t, res.Body.Close())
				if !slices.Contains(tt.want, res.StatusCode) {
					t.Errorf("%s%s: a request %s: %s", framework, path, tt.name, res.Status)
				}
			}
		}
	}
}

// TestWriteTimeoutDoesNotEndAStream: the deadline of each write replaces the server's.
func TestWriteTimeoutDoesNotEndAStream(t *testing.T) {
	for framework := range frameworks {
		t.Run(framework, func(t *testing.T) {
			t.Parallel()
			sessions, err := session.New(memstore.New(), testConfig())
			must(t, err)
			patient := node{sessions, serve(t, framework, sessions, 0)}
			const timeout = 2 * time.Second // the server itself must write the header within it
			hasty := serve(t, framework, sessions, timeout)
			b := signInAt(t, patient)
			seen := make(chan string)
			go func() {
				defer close(seen)
				overEvents.read(t.Context(), t, b, hasty, func(message string) { seen <- message })
			}()
			mustSee := func(want string) {
				t.Helper()
				if got := <-seen; got != want {
					t.Errorf("the stream sent %q, want %q", got, want)
				}
			}
			mustSee("0")
			time.Sleep(timeout + 50*time.Millisecond)
			b.mustPost(t, patient.url+"/click", nil)
			mustSee("1")
			b.mustPost(t, patient.url+"/sign-out", nil)
			mustSee("ended")
			mustSee("")
		})
	}
}

// TestFiberStreamEndsWithoutItsClient: a heartbeat finds out that the client has gone.
func TestFiberStreamEndsWithoutItsClient(t *testing.T) {
	sessions, err := session.New(memstore.New(), testConfig())
	must(t, err)
	n := node{sessions, serve(t, "fiber", sessions, 0)}
	b := signInAt(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	overEvents.read(ctx, t, b, n.url, func(string) { cancel() })
	mustEnd(t, func() bool { return !strings.Contains(stacks(), "websockets.fiberEvents") })
}

// TestFiberClosesAnUnresponsiveClient: the client gets the close frame and does not answer it.
func TestFiberClosesAnUnresponsiveClient(t *testing.T) {
	sessions, err := session.New(memstore.New(), testConfig())
	must(t, err)
	n := node{sessions, serve(t, "fiber", sessions, 0)}
	b := signInAt(t, n)
	conn := dialGorilla(t.Context(), t, b, n.url+"/socket")
	defer conn.Close()
	conn.SetCloseHandler(func(int, string) error { return nil })
	_, _, err = conn.ReadMessage()
	must(t, err)
	must(t, sessions.RevokeAll(t.Context()))
	if _, _, err := conn.ReadMessage(); !gorilla.IsCloseError(err, gorilla.ClosePolicyViolation) {
		t.Errorf("the client got %v", err)
	}
	must(t, conn.NetConn().SetReadDeadline(time.Now().Add(time.Minute)))
	if _, err := conn.NetConn().Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection is open: %v", err)
	}
}
