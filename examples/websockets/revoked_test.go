package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
	coder "github.com/coder/websocket"
)

// points is a field of the session and of the user's data.
const points session.Counter = "points"

// stubbornSocket does not use Route.Context, and goes on after an error. It says what came of each
// change.
func stubbornSocket(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	ctx := context.WithoutCancel(r.Context())
	data, err := s.UserData(ctx)
	if err != nil {
		return err
	}
	conn, err := coder.Accept(w, r, nil)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return nil
		}
		to := data
		if string(message) == "session" {
			to = s
		}
		points.Add(to, 1)
		answer := "stored"
		if err := to.Commit(ctx); errors.Is(err, session.ErrEnded) {
			answer = "ended"
		} else if err != nil {
			answer = err.Error()
		}
		if conn.Write(ctx, coder.MessageText, []byte(answer)) != nil {
			return nil
		}
	}
}

func openManager(t *testing.T, redis string) *session.Manager {
	t.Helper()
	store, err := redisstore.Open(t.Context(), redis, redisstore.Options{Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	sessions, err := session.New(store, session.Config{Logger: slog.New(slog.DiscardHandler), CommitTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return sessions
}

// dialAs signs in and opens the WebSocket. send sends a message, and returns the answer.
func dialAs(t *testing.T, server *httptest.Server, user string) (send func(message string) string) {
	t.Helper()
	res, err := server.Client().Post(server.URL+"/sign-in?user="+user, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	for _, c := range res.Cookies() {
		if c.MaxAge >= 0 {
			header.Set("Cookie", c.Name+"="+c.Value)
		}
	}
	o := &coder.DialOptions{HTTPClient: server.Client(), HTTPHeader: header}
	conn, _, err := coder.Dial(t.Context(), server.URL+"/socket", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return func(message string) string {
		if err := conn.Write(t.Context(), coder.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		_, answer, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
}

// TestWebSocketOfARevokedUserDoesNotWrite: a WebSocket that its handler keeps open writes to the
// session and to the user's data. After the user was revoked on another node, it writes neither.
func TestWebSocketOfARevokedUserDoesNotWrite(t *testing.T) {
	redis := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	node, other := openManager(t, redis), openManager(t, redis)
	mux := http.NewServeMux()
	mux.Handle("POST /sign-in", session.HandlerFunc(signIn))
	mux.Handle("GET /socket", session.HandlerFunc(stubbornSocket))
	server := httptest.NewTLSServer(node.Handler(mux))
	t.Cleanup(server.Close)
	for _, first := range []string{"data", "session"} {
		user := "ada-" + first
		send := dialAs(t, server, user)
		stored := map[string]int{}
		for _, to := range []string{"data", "session", "data"} {
			if answer := send(to); answer != "stored" {
				t.Fatalf("before the revocation, a change of the %s: %s", to, answer)
			}
			stored[to]++
		}
		if _, err := other.RevokeUser(t.Context(), user); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; { // a copy may lag for a moment
			answer := send(first)
			if answer == "ended" {
				break
			}
			if stored[first]++; answer != "stored" || first == "session" || time.Since(began) > time.Minute {
				t.Fatalf("after the revocation, a change of the %s: %s", first, answer)
			}
		}
		for _, to := range []string{"data", "session", "data", "session"} {
			if answer := send(to); answer != "ended" {
				t.Errorf("after the end, a change of the %s: %s", to, answer)
			}
		}
		data, err := other.UserData(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := points.Get(data), int64(stored["data"]); got != want {
			t.Errorf("the data has %d points, want %d", got, want)
		}
	}
}
