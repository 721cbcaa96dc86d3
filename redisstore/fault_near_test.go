package redisstore_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// mustStopTrustingCopies checks that a session which ended elsewhere at that time is not served for longer than the lease.
func mustStopTrustingCopies(t *testing.T, s *redisstore.Store, id driver.ID, ended time.Time) {
	t.Helper()
	served := time.Time{}
	for time.Since(ended) < lease+slack {
		before, _ := s.Near()
		_, _, err := s.Load(t.Context(), id)
		if after, _ := s.Near(); err == nil && after.Hits > before.Hits {
			served = time.Now()
		}
		time.Sleep(5 * time.Millisecond)
	}
	if served.IsZero() {
		t.Error("it was not served at all: the test shows nothing")
	}
	if late := served.Sub(ended); late > lease+100*time.Millisecond {
		t.Errorf("a session was served %v after its end, the lease is %v", late, lease)
	} else {
		t.Logf("served for %v", late)
	}
}

// TestCutOffNodeStopsTrustingCopies cuts a node off, without a word, while one of its sessions is ended by another.
func TestCutOffNodeStopsTrustingCopies(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	p := startProxy(t, node.Addr())
	s := mustOpen(t, "redis://"+p.Addr(), redisstore.Options{})
	other := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	mustWarm(t, s, id)
	goOn := p.stall()
	defer goOn()
	must(t, other.End(t.Context(), id))
	mustStopTrustingCopies(t, s, id, time.Now())
	if _, _, found := s.LoadStale(id); !found {
		t.Error("there is no copy for those who ask for a stale one")
	}
	goOn()
	eventually(t, recovery, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("connected again: %v, want ErrNotFound", err)
		}
		return nil
	})
}

// TestReconnectDropsCopies: after a loss of the connection no copy from before is served, since what changed meanwhile was not told.
func TestReconnectDropsCopies(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	p := startProxy(t, node.Addr())
	s := mustOpen(t, "redis://"+p.Addr(), redisstore.Options{})
	other := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	for range 20 {
		id, o := newSession()
		mustCreate(t, s, id, o)
		mustWarm(t, s, id)
		goOn := p.stall() // nothing is told any more
		must(t, other.End(t.Context(), id))
		p.cut()
		goOn()
		eventually(t, time.Second, func() error { // the client hears of it at once, not before; well within the lease
			if _, _, err := s.Load(t.Context(), id); err == nil {
				return errors.New("a copy from before the connection was lost is served")
			}
			return nil
		})
	}
}

// TestNodeOnDeposedPrimaryStopsTrustingCopies lets sentinels name another primary, while the store's client goes on with the old one, which is in good health.
func TestNodeOnDeposedPrimaryStopsTrustingCopies(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	var moved atomic.Bool
	bulk := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	host, port, _ := net.SplitHostPort(node.Addr())
	answer := func(args []string) string {
		switch strings.ToUpper(args[0]) {
		case "HELLO":
			return "%2\r\n+version\r\n+7.0.15\r\n+proto\r\n:3\r\n"
		case "SUBSCRIBE", "UNSUBSCRIBE":
			var pushes strings.Builder
			for _, channel := range args[1:] {
				pushes.WriteString(">3\r\n" + bulk(strings.ToLower(args[0])) + bulk(channel) + ":1\r\n")
			}
			return pushes.String()
		case "SENTINEL":
			if strings.EqualFold(args[1], "sentinels") {
				if moved.Load() {
					return "-ERR not now\r\n" // only the client's own search for the primary asks this
				}
				return "*0\r\n"
			}
			if moved.Load() {
				return "*2\r\n" + bulk("192.0.2.1") + bulk("6379")
			}
			return "*2\r\n" + bulk(host) + bulk(port)
		case "PING":
			return "+PONG\r\n"
		}
		return "+OK\r\n"
	}
	var addrs []string
	for range 3 {
		addrs = append(addrs, startFake(t, answer))
	}
	s := mustOpen(t, "redis+sentinel://"+strings.Join(addrs, ",")+"/sessions", redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	mustWarm(t, s, id)
	moved.Store(true)
	mustStopTrustingCopies(t, s, id, time.Now())
	if _, _, err := s.LoadFresh(t.Context(), id); err != nil {
		t.Errorf("the old primary does not answer: %v: the test shows nothing", err)
	}
}

// TestRouteDownModesWhileServerHangs asks routes of package session for a session while the server hangs, as [session.Route.Down] has it.
func TestRouteDownModesWhileServerHangs(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{Timeout: 200 * time.Millisecond})
	sessions, err := session.New(s, session.Config{})
	must(t, err)
	theme := session.Value[string]("theme")
	show := session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := fmt.Fprint(w, theme.Get(s))
		return err
	})
	mux := http.NewServeMux()
	mux.Handle("/set", session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		theme.Set(s, "dark")
		return nil
	}))
	mux.Handle("/refuse", show)
	mux.Handle("/stale", session.Route{Down: session.DownReadOnly}.Handler(show))
	server := httptest.NewTLSServer(sessions.Handler(mux))
	defer server.Close()
	var cookie *http.Cookie
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.NewRequest("GET", server.URL+path, nil)
		must(t, err)
		if cookie != nil {
			r.AddCookie(cookie)
		}
		res, err := server.Client().Do(r)
		must(t, err)
		defer res.Body.Close()
		if c := res.Cookies(); len(c) > 0 && cookie != nil {
			t.Errorf("%s sets a cookie", path)
		} else if len(c) > 0 {
			cookie = c[0]
		}
		var body strings.Builder
		res.Write(&body)
		_, text, _ := strings.Cut(body.String(), "\r\n\r\n")
		return res.StatusCode, text
	}
	get("/set")
	if status, text := get("/refuse"); status != 200 || !strings.Contains(text, "dark") {
		t.Fatalf("%d %s", status, text)
	}
	must(t, node.Pause())
	time.Sleep(lease + 500*time.Millisecond)
	if status, _ := get("/refuse"); status != http.StatusServiceUnavailable {
		t.Errorf("refuse: %d, want 503", status)
	}
	if status, text := get("/stale"); status != 200 || !strings.Contains(text, "dark") {
		t.Errorf("stale: %d %s, want the copy", status, text)
	}
	must(t, node.Resume())
	eventually(t, recovery, func() error {
		if status, text := get("/refuse"); status != 200 {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
}
