package redisstore_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestUnknownTokensAreNotTracked: tokens that nobody was given do not fill the server's tracking table, where they would crowd out the sessions that
// nodes have copies of. With keys they do not even reach the server.
func TestUnknownTokensAreNotTracked(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	for _, tt := range []struct {
		name  string
		keys  [][]byte
		bytes int // of a token
		reads int // that reach the server
	}{
		{"no keys", nil, 39, 2000}, // the session and its bucket's revocations, in one round trip
		{"keys", [][]byte{[]byte("01234567890123456789012345678901")}, 57, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{Namespace: strconv.Itoa(tt.bytes)})
			manager, err := session.New(store, session.Config{Keys: tt.keys})
			must(t, err)
			visitor := func(token string) bool {
				ctx := manager.Load(t.Context(), http.Header{"Cookie": {"__Host-session=" + token}})
				s, err := session.From(ctx)
				must(t, err)
				return s.Info().Handle != ""
			}
			known := mustCreateVisitor(t, manager)
			for range 2 { // from its second read on a session is tracked
				if !visitor(known) {
					t.Fatal("a token of ours leads nowhere")
				}
			}
			table, reads := infoNumber(t, node, "stats", `tracking_total_keys:(\d+)`), sessionCommands(t, node)
			if table == 0 {
				t.Fatal("nothing is tracked, so this test shows nothing")
			}
			made := make([]byte, tt.bytes)
			for range 1000 {
				rand.Read(made)
				made[0] = 1 // the version
				if visitor(base64.RawURLEncoding.EncodeToString(made)) {
					t.Fatal("a made-up token is adopted")
				}
			}
			if got := sessionCommands(t, node) - reads; got != tt.reads {
				t.Errorf("%d commands for 1,000 made-up tokens, want %d", got, tt.reads)
			}
			if now := infoNumber(t, node, "stats", `tracking_total_keys:(\d+)`); now != table {
				t.Errorf("the server tracks %d keys, and %d before", now, table)
			}
			if before, _ := store.Near(); !visitor(known) {
				t.Error("a token of ours leads nowhere after that")
			} else if after, _ := store.Near(); after.Hits != before.Hits+1 {
				t.Error("the copy of a session was crowded out")
			}
		})
	}
}

// mustCreateVisitor returns the token of a visitor with a session.
func mustCreateVisitor(t *testing.T, manager *session.Manager) string {
	t.Helper()
	ctx := manager.Load(t.Context(), http.Header{})
	s, err := session.From(ctx)
	must(t, err)
	session.Counter("n").Add(s, 1)
	header, err := manager.Commit(ctx)
	must(t, err)
	cookies := (&http.Response{Header: header}).Cookies()
	if len(cookies) != 1 {
		t.Fatalf("Set-Cookie %q", header["Set-Cookie"])
	}
	return cookies[0].Value
}

// sessionCommands is how many commands the server was sent that read or change sessions: a node also asks whether it is there.
func sessionCommands(t *testing.T, node *redistest.Node) (n int) {
	t.Helper()
	stats, err := node.Do("INFO", "commandstats")
	must(t, err)
	for _, m := range regexp.MustCompile(`cmdstat_(?:hm?get\w*|eval\w*|exists|z\w+):calls=(\d+)`).FindAllStringSubmatch(stats.(string), -1) {
		calls, err := strconv.Atoi(m[1])
		must(t, err)
		n += calls
	}
	return n
}

// TestEndOfUnknownSessionIsNotRepeated: sign-outs with tokens that nobody was given leave nothing behind; a real one does, by which it is repeated.
func TestEndOfUnknownSessionIsNotRepeated(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	must(t, s.End(t.Context(), id))
	for range 20 {
		made, _ := newSession()
		must(t, s.End(t.Context(), made))
	}
	before := commandCalls(t, node, "del")
	eventually(t, 5*time.Second, func() error { // a second later it is repeated
		if n := commandCalls(t, node, "del") - before; n == 0 {
			return errors.New("the end was not repeated")
		}
		return nil
	})
	if n := commandCalls(t, node, "del") - before; n > 5 {
		t.Errorf("%d ends were repeated, want that of the session that there was", n)
	}
}
