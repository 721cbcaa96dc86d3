package redisstore_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestUnknownTokensAreNotTracked presents tokens that were never issued. They do not fill the
// server's tracking table, where they would displace sessions of which nodes have copies. With
// Config.Keys they do not reach the server.
func TestUnknownTokensAreNotTracked(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	for _, tt := range []struct {
		name  string
		keys  [][]byte
		bytes int // length of a token
		reads int // commands that reach the server
	}{
		{"no keys", nil, 39, 2000}, // one for the session and one for its bucket's revocations
		{"keys", [][]byte{[]byte("01234567890123456789012345678901")}, 57, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{
				Namespace: strconv.Itoa(tt.bytes), Timeout: calm.Timeout, Lease: calm.Lease,
			})
			// No touch is under way while the commands are counted.
			manager, err := session.New(store, session.Config{Keys: tt.keys, FirstUseTimeout: 2 * time.Hour})
			must(t, err)
			hasSession := func(token string) bool {
				ctx := mustLoad(t, manager, "__Host-session="+token)
				s, err := session.From(ctx)
				must(t, err)
				return s.Info().Handle != ""
			}
			known := mustCreateVisitor(t, manager)
			for range 2 { // the server tracks a session from its second read on
				if !hasSession(known) {
					t.Fatal("an issued token has no session")
				}
			}
			for round := range 20 {
				scripts := commandCalls(t, node, "evalsha")
				table, reads := infoNumber(t, node, "stats", `tracking_total_keys:(\d+)`), sessionCommands(t, node)
				if table == 0 {
					t.Fatal("the server tracks no key, so the test shows nothing")
				}
				unknown := make([]byte, tt.bytes)
				for range 1000 {
					rand.Read(unknown)
					unknown[0] = 1 // the version
					if hasSession(base64.RawURLEncoding.EncodeToString(unknown)) {
						t.Fatal("a token that was never issued has a session")
					}
				}
				got, now := sessionCommands(t, node)-reads, infoNumber(t, node, "stats", `tracking_total_keys:(\d+)`)
				if commandCalls(t, node, "evalsha") != scripts && round < 19 {
					// The store has repeated the end of the session that Open made.
					continue
				}
				if got != tt.reads {
					t.Errorf("1,000 unknown tokens took %d commands, want %d", got, tt.reads)
				}
				if now != table {
					t.Errorf("the server tracks %d keys, want %d as before", now, table)
				}
				break
			}
			if before, _ := store.Near(); !hasSession(known) {
				t.Error("an issued token has no session after the unknown tokens")
			} else if after, _ := store.Near(); after.Hits != before.Hits+1 {
				t.Error("the near cache has lost the copy of the session")
			}
		})
	}
}

// mustLoad returns the context of a request with this cookie.
func mustLoad(t *testing.T, manager *session.Manager, cookie string) context.Context {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	r.Header.Set("Cookie", cookie)
	ctx, err := manager.Load(r)
	must(t, err)
	return ctx
}

// mustCreateVisitor returns the token of a new session.
func mustCreateVisitor(t *testing.T, manager *session.Manager) string {
	t.Helper()
	ctx := mustLoad(t, manager, "")
	s, err := session.From(ctx)
	must(t, err)
	session.Counter("n").Add(s, 1)
	header, err := manager.Commit(ctx)
	must(t, err)
	cookies := (&http.Response{Header: header}).Cookies()
	if len(cookies) != 1 {
		t.Fatalf("Set-Cookie: %q, want one cookie", header["Set-Cookie"])
	}
	return cookies[0].Value
}

// sessionCommands returns how many commands the server has run that read or change sessions.
// Commands of a node's checkups do not count.
func sessionCommands(t *testing.T, node *redistest.Node) (n int) {
	t.Helper()
	stats, err := node.Do("INFO", "commandstats")
	must(t, err)
	pattern := regexp.MustCompile(`cmdstat_(?:hm?get\w*|eval\w*|exists|z\w+):calls=(\d+)`)
	for _, m := range pattern.FindAllStringSubmatch(stats.(string), -1) {
		calls, err := strconv.Atoi(m[1])
		must(t, err)
		n += calls
	}
	return n
}

// TestEndOfUnknownSessionIsNotRepeated ends sessions that never existed. The store does not keep
// their ends. It repeats only the end of a real session.
func TestEndOfUnknownSessionIsNotRepeated(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	must(t, s.End(t.Context(), id))
	for range 20 {
		unknown, _ := newSession()
		must(t, s.End(t.Context(), unknown))
	}
	before := commandCalls(t, node, "eval")
	eventually(t, anytime, func() error { // the store repeats an end after a second
		if n := commandCalls(t, node, "eval") - before; n == 0 {
			return errors.New("the store has not repeated the end")
		}
		return nil
	})
	if n := commandCalls(t, node, "eval") - before; n > 5 {
		t.Errorf("the store repeated %d ends, want that of the one real session", n)
	}
}
