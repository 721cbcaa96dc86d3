package redisstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// socketNode is a process that serves event streams over TCP.
type socketNode struct {
	webNode
	addr string
	open *atomic.Int64 // responses
	cuts *sync.Map     // functions that end a response
}

func mustListen(t testing.TB, n webNode) socketNode {
	t.Helper()
	open := new(atomic.Int64)
	cuts := new(sync.Map)
	route := session.Route{SignedIn: true, Passive: true}
	stream := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		open.Add(1)
		defer open.Add(-1)
		ctx, stop := route.Context(r.Context())
		defer stop()
		ctx, cut := context.WithCancel(ctx)
		defer cut()
		cuts.Store(r, cut)
		defer cuts.Delete(r)
		w.Header().Set("Content-Type", "text/event-stream")
		send := func(event string) error {
			if _, err := fmt.Fprintf(w, "data: %s\n\n", event); err != nil {
				return err
			}
			return http.NewResponseController(w).Flush()
		}
		if err := send(fmt.Sprint(watched.Get(s))); err != nil {
			return err
		}
		for _, err := range s.Watch(ctx) {
			if err != nil {
				break
			}
			if err := send(fmt.Sprint(watched.Get(s))); err != nil {
				return err
			}
		}
		return send("ended")
	}
	server := httptest.NewServer(n.Handler(route.Handler(session.HandlerFunc(stream))))
	t.Cleanup(server.Close)
	return socketNode{n, server.Listener.Addr().String(), open, cuts}
}

// cut ends all responses, without a revocation.
func (n socketNode) cut() {
	n.cuts.Range(func(_, cut any) bool { cut.(context.CancelFunc)(); return true })
}

// socket is a client's connection with an open event stream.
type socket struct {
	conn   net.Conn
	events chan string // what the stream sent after it was opened, but "ended"
	closed chan struct{}

	// Read them when closed is closed.
	at    time.Time
	ended bool // the stream said that it ended
	err   error
}

// mustOpenSocket returns when the stream has sent its first event.
func (n socketNode) mustOpenSocket(t testing.TB, cookie string) *socket {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", n.addr)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: shop.example\r\nCookie: %s\r\nConnection: close\r\n\r\n", cookie)
	must(t, err)
	s := &socket{conn: conn, events: make(chan string, 16), closed: make(chan struct{})}
	go s.read()
	select {
	case <-s.events:
	case <-s.closed:
		t.Fatalf("the stream ended before it was open: %v", s.err)
	case <-time.After(anytime):
		t.Fatal("the stream does not open")
	}
	return s
}

func (s *socket) read() {
	defer close(s.closed)
	lines := bufio.NewScanner(s.conn)
	for lines.Scan() {
		switch event, ok := strings.CutPrefix(lines.Text(), "data: "); {
		case ok && event == "ended":
			s.ended = true
		case ok:
			s.events <- event
		}
	}
	s.at, s.err = time.Now(), lines.Err()
	if s.err == nil {
		s.err = io.EOF
	}
}

// mustClose waits until the server has closed the connection.
func (s *socket) mustClose(t testing.TB, limit <-chan time.Time) {
	t.Helper()
	select {
	case <-s.closed:
		if !s.ended || !errors.Is(s.err, io.EOF) {
			t.Errorf("the stream ended without a word: %v", s.err)
		}
	case <-limit:
		t.Fatal("a connection is still open")
	}
}

func (s *socket) mustStayOpen(t testing.TB) {
	t.Helper()
	select {
	case <-s.closed:
		t.Error("a connection was closed that should stay open")
	default:
	}
}

// mustOpenSockets opens a stream on one node and the next for each user, who signs in anew.
func mustOpenSockets(t testing.TB, nodes []socketNode, users []string) (sockets []*socket, handles []string) {
	t.Helper()
	sockets, handles = make([]*socket, len(users)), make([]string, len(users))
	var all sync.WaitGroup
	const workers = 8
	for worker := range workers {
		all.Go(func() {
			for i := worker; i < len(users) && !t.Failed(); i += workers {
				node := nodes[i%len(nodes)]
				cookie := node.mustSignIn(t, users[i])
				node.mustDo(t, cookie, func(_ context.Context, s *session.Session) error { handles[i] = s.Info().Handle; return nil })
				sockets[i] = node.mustOpenSocket(t, cookie)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return sockets, handles
}

func sameUser(user string, n int) (users []string) {
	for range n {
		users = append(users, user)
	}
	return users
}

func differentUsers(n int) (users []string) {
	for i := range n {
		users = append(users, fmt.Sprint("user", i))
	}
	return users
}

func startSocketNodes(t testing.TB) []socketNode {
	t.Helper()
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	return []socketNode{
		mustListen(t, mustServe(t, url, calm, time.Minute)),
		mustListen(t, mustServe(t, url, calm, time.Minute)),
	}
}

// TestThousandSocketsOfARevokedUserClose: a user has 1,000 open connections on two nodes, each with
// a session of its own. The user is revoked on one node, but for two sessions. All other
// connections are closed. Those of the two sessions, and another user's, stay open.
func TestThousandSocketsOfARevokedUserClose(t *testing.T) {
	limitParallel(t)
	nodes := startSocketNodes(t)
	sockets, handles := mustOpenSockets(t, nodes, append(sameUser("ada", 1002), "eve"))
	time.Sleep(2 * time.Millisecond) // a revocation covers what was created before
	ended, err := nodes[1].RevokeUser(t.Context(), "ada", handles[:2]...)
	if err != nil || ended != 1000 {
		t.Errorf("RevokeUser ended %d sessions, error %v, want 1000", ended, err)
	}
	limit := time.After(time.Minute)
	for _, s := range sockets[2:1002] {
		s.mustClose(t, limit)
	}
	if n := nodes[0].open.Load() + nodes[1].open.Load(); n != 3 {
		t.Errorf("%d responses are open, want 3", n)
	}
	for _, s := range []*socket{sockets[0], sockets[1], sockets[1002]} {
		s.mustStayOpen(t)
	}
}

// TestThousandSocketsOfDifferentUsersClose: 1,000 users have a connection each. Half of them are
// revoked one by one, and then everybody. No connection is left open.
func TestThousandSocketsOfDifferentUsersClose(t *testing.T) {
	limitParallel(t)
	nodes := startSocketNodes(t)
	users := differentUsers(1000)
	sockets, _ := mustOpenSockets(t, nodes, users)
	time.Sleep(2 * time.Millisecond) // a revocation covers what was created before
	limit := time.After(2 * time.Minute)
	for i, user := range users[:500] {
		ended, err := nodes[i/2%2].RevokeUser(t.Context(), user)
		if err != nil || ended != 1 {
			t.Errorf("RevokeUser ended %d sessions, error %v, want 1", ended, err)
		}
	}
	for _, s := range sockets[:500] {
		s.mustClose(t, limit)
	}
	for _, s := range sockets[500:] {
		s.mustStayOpen(t)
	}
	must(t, nodes[1].RevokeAll(t.Context()))
	for _, s := range sockets[500:] {
		s.mustClose(t, limit)
	}
	if n := nodes[0].open.Load() + nodes[1].open.Load(); n != 0 {
		t.Errorf("%d responses are open, want 0", n)
	}
}
