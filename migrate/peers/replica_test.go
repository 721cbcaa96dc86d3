package peers

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestReplicaTakesOver: a server that has replicated the sessions continues them as they are:
// tokens, sealed values, the list of a user, and revocations.
func TestReplicaTakesOver(t *testing.T) {
	from, to := redistest.Start(t, redistest.Options{}), redistest.Start(t, redistest.Options{})
	open := func(n *redistest.Node) (*redisstore.Store, *session.Manager) {
		store, err := redisstore.Open(t.Context(), "redis://"+n.Addr(), redisstore.Options{Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		m, err := session.New(store, session.Config{Keys: [][]byte{key}, UserKey: key, Seal: true, CommitTimeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return store, m
	}
	do := func(m *session.Manager, cookie *http.Cookie, f func(ctx context.Context, s *session.Session) error) *http.Response {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.test/", nil)
		if cookie != nil {
			r.AddCookie(cookie)
		}
		w := httptest.NewRecorder()
		m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
			return f(r.Context(), s)
		})).ServeHTTP(w, r)
		return w.Result()
	}
	store, m := open(from)
	signIn := func(user string) *http.Cookie {
		return do(m, nil, func(ctx context.Context, s *session.Session) error {
			theme.Set(s, "dark")
			return s.SignIn(ctx, session.Login{User: user})
		}).Cookies()[0]
	}
	ada, eve, began := signIn("ada"), signIn("eve"), time.Now()
	if _, err := m.RevokeUser(t.Context(), "eve"); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Do("REPLICAOF", "127.0.0.1", strconv.Itoa(from.Port())); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		info, err := to.Do("INFO", "replication")
		if text, _ := info.(string); err == nil && strings.Contains(text, "master_link_status:up") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the replica does not follow: %v, %v", info, err)
		}
	}
	store.Close()
	if _, err := to.Do("REPLICAOF", "NO", "ONE"); err != nil {
		t.Fatal(err)
	}
	store, m = open(to)
	defer store.Close()
	do(m, ada, func(ctx context.Context, s *session.Session) error {
		if s.User() != "ada" || theme.Get(s) != "dark" {
			t.Errorf("ada's session: %q, %q", s.User(), theme.Get(s))
		}
		n := 0
		for range m.Sessions(ctx, "ada") {
			n++
		}
		if n != 1 {
			t.Errorf("ada has %d sessions, want 1", n)
		}
		return nil
	})
	do(m, eve, func(ctx context.Context, s *session.Session) error {
		if s.User() != "" {
			t.Error("eve's session came back")
		}
		if err := s.SignIn(ctx, session.Login{User: "eve", Began: began}); err == nil {
			t.Error("a sign-in that began before the revocation succeeded")
		}
		return nil
	})
}
