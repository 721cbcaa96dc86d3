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

// longLease is a lease that a stall of the machine does not use up before a copy is served.
const longLease = 2 * lease

// withLongLease are the options of a store for mustStopTrustingCopies.
var withLongLease = redisstore.Options{Lease: longLease}

// mustStopTrustingCopies checks that a store does not serve its copy of a session for longer than
// the lease after the session ended elsewhere. It watches for the lease, and then for the time of
// two checkups, in which a store could renew its lease by mistake.
func mustStopTrustingCopies(t *testing.T, s *redisstore.Store, id driver.ID, ended time.Time) {
	t.Helper()
	served := time.Time{} // the last read that a copy served began then
	for time.Since(ended) < longLease+2*checkup {
		before, _ := s.Near()
		begin := time.Now()
		_, _, err := s.Load(t.Context(), id)
		if after, _ := s.Near(); err == nil && after.Hits > before.Hits {
			served = begin
		}
		time.Sleep(5 * time.Millisecond)
	}
	if served.IsZero() {
		t.Error("the copy was never served, so the test shows nothing")
	}
	if late := served.Sub(ended); late > longLease {
		t.Errorf("a copy was served %v after the session ended, the lease is %v", late, longLease)
	} else {
		t.Logf("the copy was served for %v", late)
	}
}

// TestCutOffNodeStopsTrustingCopies cuts a node off from its server while another node ends a
// session. The connections stay open, so the node gets no error.
func TestCutOffNodeStopsTrustingCopies(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	p := startProxy(t, node.Addr())
	s := mustOpen(t, "redis://"+p.Addr(), withLongLease)
	other := mustOpen(t, "redis://"+node.Addr(), calm)
	id, o := newSession()
	mustCreate(t, s, id, o)
	mustWarm(t, s, id)
	resume := p.stall()
	defer resume()
	must(t, other.End(t.Context(), id))
	mustStopTrustingCopies(t, s, id, time.Now())
	if _, _, found := s.LoadStale(id); !found {
		t.Error("LoadStale finds no copy")
	}
	resume()
	eventually(t, recovery, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load after the connection is back: %v, want ErrNotFound", err)
		}
		return nil
	})
}

// TestReconnectDropsCopies breaks the connection while another node ends a session. The node then
// serves no earlier copy, because it missed the invalidation.
func TestReconnectDropsCopies(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	p := startProxy(t, node.Addr())
	s, other := mustOpen(t, "redis://"+p.Addr(), calm), mustOpen(t, "redis://"+node.Addr(), calm)
	for range 20 {
		id, o := newSession()
		mustCreate(t, s, id, o)
		mustWarm(t, s, id)
		resume := p.stall() // so that the invalidation does not arrive
		must(t, other.End(t.Context(), id))
		p.cut()
		resume()
		eventually(t, time.Second, func() error { // well within the lease of a minute
			if _, _, err := s.Load(t.Context(), id); err == nil {
				return errors.New("the node serves a copy from before it lost the connection")
			}
			return nil
		})
	}
}

// TestNodeOnDeposedPrimaryStopsTrustingCopies has the sentinels name a new primary while the store
// stays connected to the old one, which still answers.
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
					// Only the client asks this, to find the primary. It must not find the new one.
					return "-ERR not now\r\n"
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
	s := mustOpen(t, "redis+sentinel://"+strings.Join(addrs, ",")+"/sessions", withLongLease)
	id, o := newSession()
	mustCreate(t, s, id, o)
	mustWarm(t, s, id)
	moved.Store(true)
	mustStopTrustingCopies(t, s, id, time.Now())
	if _, _, err := s.LoadFresh(t.Context(), id); err != nil {
		t.Errorf("the old primary does not answer, so the test shows nothing: %v", err)
	}
}

// TestRouteDownModesWhileServerHangs requests routes of package session while the server hangs. See
// [session.Route.Down].
func TestRouteDownModesWhileServerHangs(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	// No touch is under way when the server stops: one whose outcome is not known drops the copy.
	sessions, err := session.New(s, session.Config{FirstUseTimeout: 2 * time.Hour})
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
			t.Errorf("%s sets a cookie, want none", path)
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
		t.Fatalf("/refuse: status %d, body %q, want the value", status, text)
	}
	must(t, node.Pause())
	status := http.StatusOK
	deadline := time.Now().Add(lease + 500*time.Millisecond)
	for late := false; status == http.StatusOK && !late; {
		time.Sleep(10 * time.Millisecond)
		late = time.Now().After(deadline)
		status, _ = get("/refuse")
	}
	for range 2 { // the copy is not served again
		if status != http.StatusServiceUnavailable {
			t.Errorf("/refuse: status %d after the lease, want 503", status)
		}
		status, _ = get("/refuse")
	}
	if status, text := get("/stale"); status != 200 || !strings.Contains(text, "dark") {
		t.Errorf("/stale: status %d, body %q, want the copy", status, text)
	}
	must(t, node.Resume())
	eventually(t, recovery, func() error {
		if status, text := get("/refuse"); status != 200 {
			return fmt.Errorf("/refuse: status %d, body %q, want 200", status, text)
		}
		return nil
	})
}
