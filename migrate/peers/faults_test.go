package peers

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/migrate"
)

// mustDo sends a command to the server of the old sessions.
func (x *site) mustDo(args ...string) any {
	x.t.Helper()
	reply, err := x.oldAt.Do(args...)
	if err != nil {
		x.t.Fatal(err)
	}
	return reply
}

// mustHaveOneKey returns the only key of the old server, and its value.
func (x *site) mustHaveOneKey() (key, value string) {
	x.t.Helper()
	keys, _ := x.mustDo("KEYS", "*").([]any)
	if len(keys) != 1 {
		x.t.Fatalf("the old server has %v, want one key", keys)
	}
	key, _ = keys[0].(string)
	value, _ = x.mustDo("GET", key).(string)
	return key, value
}

func encoded(v any) string {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		panic(err)
	}
	return b.String()
}

// unhashable is a type that is no key of a map.
type unhashable []int

// TestUndecodableSessionIsKept: the visitor of an old session that does not decode starts anew. The
// session is kept as it was, and each failure is reported.
func TestUndecodableSessionIsKept(t *testing.T) {
	gob.Register(unhashable{})
	for _, p := range programs {
		if p.visitor != 0 || strings.Contains(strings.ToLower(p.name), "cookie") {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			var failures atomic.Int32
			x := newSite(t, p, migrate.Options{OnFailure: func(_ context.Context, err error) {
				if failures.Add(1); !errors.Is(err, migrate.ErrDecode) {
					t.Errorf("OnFailure: %v, want ErrDecode", err)
				}
			}})
			good := x.known(ada)
			key, value := x.mustHaveOneKey()
			for name, bad := range map[string]string{
				"garbage":              "garbage",
				"cut":                  value[:len(value)/2],
				"a type not known":     strings.ReplaceAll(value, "map[string]int", "map[string]inT"),
				"another type":         encoded([]string{"a", "b"}),
				"a hostile length":     "\xf8\x7f\xff\xff\xff\xff\xff\xff\xff" + value,
				"too large":            encoded(map[any]any{"a": strings.Repeat("x", 2<<20)}),
				"a nested hostile map": encoded(map[any]any{"a": map[string]int{}}) + strings.Repeat("\xff", 100),
			} {
				if name == "a nested hostile map" && decodes(x, key, bad) {
					continue // gob ignores what follows the value
				}
				x.mustDo("SET", key, bad)
				v, before := good.tab(), failures.Load()
				v.mustVisit(0, "/", nobody)
				if failures.Load() != before+1 || !v.hasOld() {
					t.Errorf("%s: %d failures, old cookie %v", name, failures.Load()-before, v.hasOld())
				}
				v.mustVisit(1, "/add", "1  0 0 ")
				v.mustVisit(0, "/", "1  0 0 ")
				if after := x.mustDo("GET", key); after != bad {
					t.Errorf("%s: the old session was changed", name)
				}
			}
			x.mustDo("SET", key, value)
			good.mustVisit(0, "/", ada.text())
		})
	}
}

// decodes reports whether the source decodes this value.
func decodes(x *site, key, value string) bool {
	x.mustDo("SET", key, value)
	_, err := x.source.Load(x.t.Context(), strings.TrimPrefix(strings.TrimPrefix(key, "scs:session:"), "session_"))
	return err == nil
}

// TestMoveThatFailsKeepsTheOldSession: an error, a panic, a value that is too large and a login
// that is not valid.
func TestMoveThatFailsKeepsTheOldSession(t *testing.T) {
	failed := errors.New("no")
	for name, move := range map[string]func(s *session.Session) (*session.Login, error){
		"error": func(s *session.Session) (*session.Login, error) { visits.Add(s, 1); return nil, failed },
		"panic": func(s *session.Session) (*session.Login, error) { visits.Add(s, 1); panic("no") },
		"too large": func(s *session.Session) (*session.Login, error) {
			theme.Set(s, strings.Repeat("x", 1<<20))
			return nil, nil
		},
		"bad login": func(s *session.Session) (*session.Login, error) { visits.Add(s, 1); return &session.Login{}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			failures := 0
			x := newSite(t, programs[0], migrate.Options{
				Move:      func(_ context.Context, _ *migrate.Old, s *session.Session) (*session.Login, error) { return move(s) },
				OnFailure: func(context.Context, error) { failures++ },
			})
			v := x.known(ada)
			_, value := x.mustHaveOneKey()
			v.mustVisit(0, "/", nobody)
			v.mustVisit(1, "/add", "1  0 0 ")
			if _, after := x.mustHaveOneKey(); failures != 2 || after != value {
				t.Errorf("%d failures, want 2; the old session is kept: %v", failures, after == value)
			}
		})
	}
}

// TestStoreThatIsDownIs503: a store that does not answer, old or new, is an error and never an
// empty session. No cookie changes, and the visitor goes on when the store is back.
func TestStoreThatIsDownIs503(t *testing.T) {
	for _, p := range []program{programs[0], programs[3]} {
		t.Run(p.name, func(t *testing.T) {
			x := newSite(t, p, migrate.Options{})
			v := x.known(ada)
			must := func(what string, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			mustFail := func(what string) {
				t.Helper()
				before := len(v.cookies)
				res, body := v.visit(0, "/add")
				if res.StatusCode != http.StatusServiceUnavailable || len(res.Cookies()) != 0 || len(v.cookies) != before {
					t.Errorf("%s: %d, %q, cookies %v", what, res.StatusCode, body, res.Cookies())
				}
			}
			must("stop the old server", x.oldAt.Kill())
			mustFail("the old store is down")
			must("restart the old server", x.oldAt.Restart())
			must("pause the old server", x.oldAt.Pause())
			mustFail("the old store hangs")
			must("resume the old server", x.oldAt.Resume())
			must("stop the new server", x.newAt.Kill())
			mustFail("the new store is down")
			must("restart the new server", x.newAt.Restart())
			mustComeBack(v, ada.text())
		})
	}
}

// mustComeBack visits until both programs' clients have connected again.
func mustComeBack(v *visitor, want string) {
	v.x.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if res, body := v.visit(0, "/"); res.StatusCode == http.StatusOK {
			if body != want {
				v.x.t.Errorf("after the outage: %q, want %q", body, want)
			}
			return
		}
		time.Sleep(50 * time.Millisecond) // the client's own pause before it connects again
	}
	v.x.t.Error("after the outage: no success")
}

// TestGoingBack: with KeepUntil the old program still finds its sessions, with their old values.
// The deployment after that ends them.
func TestGoingBack(t *testing.T) {
	for _, p := range programs {
		if !p.notKept {
			t.Run(p.name, func(t *testing.T) { goBack(t, p) })
		}
	}
}

func goBack(t *testing.T, p program) {
	x := newSite(t, p, migrate.Options{KeepUntil: p.keepFor(time.Hour)})
	v := x.known(ada)
	before := v.visitOld("/read")
	v.mustVisit(0, "/", ada.text())
	v.mustVisit(1, "/add", "8 dark 7 1 ada")
	if after := v.visitOld("/read"); after != before {
		t.Errorf("the old program has %q, want %q", after, before)
	}
	v.mustVisit(0, "/", "8 dark 7 1 ada") // forward again
	old := v.tab()
	x.deploy(migrate.Options{})
	v.mustVisit(1, "/", "8 dark 7 1 ada")
	if v.hasOld() {
		t.Error("the old cookie was not deleted")
	}
	if _, inCookie := x.oldID(old); !inCookie {
		if text := old.visitOld("/read"); !strings.HasPrefix(text, "<nil>") {
			t.Errorf("the old program still has %q", text)
		}
	}
}

// TestRevokedUserDoesNotComeBack: a revocation covers the old sessions that were not moved, and
// with KeepUntil also ends those that were.
func TestRevokedUserDoesNotComeBack(t *testing.T) {
	each(t, func(t *testing.T, p program) {
		x := newSite(t, p, migrate.Options{KeepUntil: p.keepFor(time.Hour)})
		moved, waiting := x.known(ada), x.known(ada)
		other := x.known(values{visits: 3, theme: "light", user: "eve"})
		old := moved.tab()
		moved.mustVisit(0, "/", ada.text())
		if n, err := x.nodes[1].migration.RevokeUser(t.Context(), "ada"); n != 1 || err != nil {
			t.Fatalf("RevokeUser: %d, %v", n, err)
		}
		moved.mustVisit(0, "/", nobody)
		waiting.mustVisit(0, "/", nobody)
		waiting.mustVisit(1, "/", nobody)
		other.mustVisit(1, "/", values{visits: 3, theme: "light", user: "eve"}.text())
		if _, inCookie := x.oldID(old); !inCookie {
			if text := old.visitOld("/read"); !strings.HasPrefix(text, "<nil>") {
				t.Errorf("the old program still has %q", text)
			}
		}
		again := x.known(ada) // signed in after the revocation
		again.mustVisit(0, "/", ada.text())
	})
}
