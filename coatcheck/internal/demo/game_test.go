package demo_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// gamer is a visitor who plays.
type gamer struct {
	*visitor
	conn *websocket.Conn

	mu    sync.Mutex
	board board
	seen  chan struct{} // closed and replaced at each board
	ended error         // of the connection
}

type board struct {
	You     string
	Players map[string]struct {
		Name string
		place
		Coins int
	}
	Coins map[string]place
}

type place struct{ X, Y int }

// mustPlay opens the page of the game and its WebSocket.
func mustPlay(t *testing.T, v *visitor) *gamer {
	t.Helper()
	server := httptest.NewServer(v.app.handler)
	t.Cleanup(server.Close)
	return mustPlayAt(t, v, server.Client(), server.URL)
}

func mustPlayAt(t *testing.T, v *visitor, client *http.Client, url string) *gamer {
	t.Helper()
	v.keep(v.send(t.Context(), "GET", "/game"))
	conn, err := dial(t.Context(), client, url, "Cookie", v.cookie)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	g := &gamer{visitor: v, conn: conn, seen: make(chan struct{})}
	go func() {
		for {
			_, message, err := conn.Read(t.Context())
			g.mu.Lock()
			if err == nil {
				g.board = board{}
				err = json.Unmarshal(message, &g.board)
			}
			g.ended = err
			close(g.seen)
			g.seen = make(chan struct{})
			g.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	g.mustSee(t, "itself", func(b *board) bool { return b.You != "" })
	return g
}

func dial(ctx context.Context, client *http.Client, url string, header ...string) (*websocket.Conn, error) {
	o := websocket.DialOptions{HTTPClient: client, HTTPHeader: http.Header{}}
	for i := 0; i < len(header); i += 2 {
		o.HTTPHeader.Set(header[i], header[i+1])
	}
	conn, resp, err := websocket.Dial(ctx, url+"/game/socket", &o)
	if err == nil {
		return conn, nil
	}
	if resp != nil {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil, err
}

// mustSee waits for a board.
func (g *gamer) mustSee(t *testing.T, what string, ok func(*board) bool) board {
	t.Helper()
	timeout := time.After(patience)
	for {
		g.mu.Lock()
		b, seen, ended := g.board, g.seen, g.ended
		g.mu.Unlock()
		if b.You != "" && ok(&b) {
			return b
		}
		if ended != nil {
			t.Fatalf("waiting for %s: the connection has ended: %v", what, ended)
		}
		select {
		case <-seen:
		case <-timeout:
			t.Fatalf("waiting for %s: the board has %+v", what, b)
		}
	}
}

// mustEnd waits for the end of the connection, and returns its code and reason.
func (g *gamer) mustEnd(t *testing.T) (websocket.StatusCode, string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		g.mu.Lock()
		seen, ended := g.seen, g.ended
		g.mu.Unlock()
		if ended != nil {
			var closed websocket.CloseError
			if !errors.As(ended, &closed) {
				t.Fatalf("the connection has ended with %v", ended)
			}
			return closed.Code, closed.Reason
		}
		select {
		case <-seen:
		case <-timeout:
			t.Fatal("the connection does not end")
		}
	}
}

func (g *gamer) send(t *testing.T, message string) error {
	t.Helper()
	return g.conn.Write(t.Context(), websocket.MessageText, []byte(message))
}

func (g *gamer) at() place {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.board.Players[g.board.You].place
}

// mustWalk moves the player to a place, in steps that the rules allow.
func (g *gamer) mustWalk(t *testing.T, to place) {
	t.Helper()
	for from := g.at(); from != to; {
		d := math.Hypot(float64(to.X-from.X), float64(to.Y-from.Y))
		step := min(1, 55/d)
		next := place{from.X + int(float64(to.X-from.X)*step), from.Y + int(float64(to.Y-from.Y)*step)}
		if step == 1 {
			next = to
		}
		if err := g.send(t, fmt.Sprintf(`{"x":%d,"y":%d}`, next.X, next.Y)); err != nil {
			t.Fatal(err)
		}
		from = next
		g.mustSee(t, "its own move", func(b *board) bool { return b.Players[b.You].place == next })
	}
}

func TestPlayersSeeEachOtherMove(t *testing.T) {
	a := mustNewApp(t)
	ann, bob := mustPlay(t, mustSignIn(t, a, "Ann", firefox)), mustPlay(t, mustVisit(t, a))
	b := bob.mustSee(t, "two players", func(b *board) bool { return len(b.Players) == 2 })
	mustEqual(t, "coins", len(b.Coins), 8)
	me := ann.mustSee(t, "two players", func(b *board) bool { return len(b.Players) == 2 }).You
	mustEqual(t, "Ann's name", b.Players[me].Name, "Ann")
	mustEqual(t, "a guest's name", strings.HasPrefix(b.Players[b.You].Name, "Guest "), true)
	for _, to := range []place{{0, 0}, {1000, 600}} {
		ann.mustWalk(t, to)
		bob.mustSee(t, "Ann's move", func(b *board) bool { return b.Players[me].place == to })
	}

	t.Run("a reload keeps place and coins", func(t *testing.T) {
		coins := ann.mustSee(t, "a board", func(*board) bool { return true }).Players[me].Coins
		_ = ann.conn.Close(websocket.StatusNormalClosure, "")
		bob.mustSee(t, "Ann leaves", func(b *board) bool { return len(b.Players) == 1 })
		again := mustPlay(t, ann.visitor)
		mustEqual(t, "place", again.at(), place{1000, 600})
		got := again.mustSee(t, "a board", func(*board) bool { return true }).Players[me].Coins
		mustEqual(t, "coins", got, coins)
	})
}

// TestSignOutEndsTheGame checks that a sign-out closes the WebSockets of all tabs, and removes the
// player. The move that comes too late is refused.
func TestSignOutEndsTheGame(t *testing.T) {
	a := mustNewApp(t)
	ann, bob := mustPlay(t, mustSignIn(t, a, "Ann", firefox)), mustPlay(t, mustVisit(t, a))
	tab := mustPlay(t, &visitor{app: a, cookie: ann.cookie})
	bob.mustSee(t, "two players", func(b *board) bool { return len(b.Players) == 2 })
	mustEqual(t, "sign-out", ann.visitor.send(t.Context(), "POST", "/sign-out").StatusCode, 200)
	for _, g := range []*gamer{ann, tab} {
		code, reason := g.mustEnd(t)
		mustEqual(t, "code", code, websocket.StatusPolicyViolation)
		mustEqual(t, "reason", reason, "the session has ended")
	}
	bob.mustSee(t, "one player", func(b *board) bool { return len(b.Players) == 1 })
}

func TestGameRefusesNonsense(t *testing.T) {
	a := mustNewApp(t)
	bob := mustPlay(t, mustVisit(t, a))
	for message, want := range map[string]string{
		`{"x":`:           "refused: that is not a move",
		`hello`:           "refused: that is not a move",
		`{"x":1e99}`:      "refused: that is not a move",
		`{"x":"1","y":2}`: "refused: that is not a move",
		`{"x":-1,"y":0}`:  "refused: that is not on the board",
		`{"x":0,"y":601}`: "refused: that is not on the board",
		`[]`:              "refused: that is not a move",
	} {
		g := mustPlay(t, mustVisit(t, a))
		if err := g.send(t, message); err != nil {
			t.Fatal(err)
		}
		code, reason := g.mustEnd(t)
		mustEqual(t, "code for "+message, code, websocket.StatusPolicyViolation)
		mustEqual(t, "reason for "+message, reason, want)
	}
	far := mustPlay(t, mustVisit(t, a))
	far.mustWalk(t, place{500, 300})
	if err := far.send(t, `{"x":561,"y":300}`); err != nil {
		t.Fatal(err)
	}
	_, reason := far.mustEnd(t)
	mustEqual(t, "reason for a long step", reason, "refused: that is too far for one move")
	long := mustPlay(t, mustVisit(t, a))
	if err := long.send(t, strings.Repeat(" ", 200)); err != nil {
		t.Fatal(err)
	}
	code, _ := long.mustEnd(t)
	mustEqual(t, "code for a long message", code, websocket.StatusMessageTooBig)
	bob.mustSee(t, "one player", func(b *board) bool { return len(b.Players) == 1 })
}

// pipes is a listener in memory: its connections work in a bubble of synctest.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// mustServeInMemory returns a client whose requests a handler answers, at any address.
func mustServeInMemory(t *testing.T, h http.Handler) *http.Client {
	t.Helper()
	var running sync.WaitGroup
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Done()
		h.ServeHTTP(w, r)
	})
	server, p := &http.Server{Handler: counted, ReadHeaderTimeout: time.Minute}, make(pipes)
	go func() { _ = server.Serve(p) }()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, served := net.Pipe()
		p <- served
		return client, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		close(p)
		server.Close()
		running.Wait() // also for handlers that have taken their connections over
	})
	return &http.Client{Transport: transport}
}

// TestTooManyMovesAreRefused sends 10,000 moves at once. They are not queued: after a few of them
// the game of this player ends, and the others play on.
func TestTooManyMovesAreRefused(t *testing.T) {
	synctest.Test(t, tooManyMoves)
}

func tooManyMoves(t *testing.T) {
	a := mustNewApp(t)
	client := mustServeInMemory(t, a.handler)
	mustPlay := func(t *testing.T, v *visitor) *gamer { return mustPlayAt(t, v, client, "http://demo.test") }
	ann, bob := mustPlay(t, mustVisit(t, a)), mustPlay(t, mustVisit(t, a))
	at := ann.at()
	for i := range 10_000 {
		if ann.send(t, fmt.Sprintf(`{"x":%d,"y":%d}`, min(at.X+i, 1000), at.Y)) != nil {
			break
		}
	}
	code, reason := ann.mustEnd(t)
	mustEqual(t, "code", code, websocket.StatusPolicyViolation)
	mustEqual(t, "reason", reason, "refused: more than 60 moves a second")
	bob.mustSee(t, "one player", func(b *board) bool { return len(b.Players) == 1 })
	bob.mustWalk(t, place{10, 10})
	again := mustPlay(t, ann.visitor)
	if got := again.at().X - at.X; got > 30 {
		t.Errorf("%d moves were played, want few", got)
	}
}

func TestGameNeedsASessionAndItsOwnOrigin(t *testing.T) {
	a := mustNewApp(t)
	v := mustVisit(t, a)
	server := httptest.NewServer(a.handler)
	t.Cleanup(server.Close)
	for name, header := range map[string][]string{
		"no session":    {},
		"a made-up one": {"Cookie", "__Host-session=" + strings.Repeat("A", 64)},
		"another site":  {"Cookie", v.cookie, "Origin", "https://evil.example"},
	} {
		if _, err := dial(t.Context(), server.Client(), server.URL, header...); err == nil || err.Error() != "status 403" {
			t.Errorf("%s: got %v, want status 403", name, err)
		}
	}
}
