package migrate_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/migrate"
	"github.com/gorilla/securecookie"
)

// fakeRedis answers GETRANGE, PTTL and DEL from a map. Keys expire after ttl; -1: they do not.
type fakeRedis struct {
	values map[string]string
	ttl    time.Duration
	bytes  bool // texts are []byte, as of redigo
	kept   bool // DEL has no effect
}

func (f *fakeRedis) do(_ context.Context, args ...any) (any, error) {
	key, _ := args[1].(string)
	value, ok := f.values[key]
	switch args[0] {
	case "GETRANGE":
		if f.bytes {
			return []byte(value), nil
		}
		return value, nil
	case "PTTL":
		switch {
		case !ok:
			return int64(-2), nil
		case f.ttl < 0:
			return int64(-1), nil
		}
		return f.ttl.Milliseconds(), nil
	case "DEL":
		if !f.kept {
			delete(f.values, key)
		}
		return int64(1), nil
	}
	return nil, errors.New("an unexpected command")
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const oldID = "a-long-id-of-an-old-session"

func header(cookie string) http.Header { return http.Header{"Cookie": {cookie}} }

// TestUnsignedIDs: rbcervilla/redisstore keeps gob under "session:" and the id in the cookie. The
// library cannot be installed here, so its format is written by hand.
func TestUnsignedIDs(t *testing.T) {
	for _, asBytes := range []bool{false, true} {
		r := &fakeRedis{ttl: time.Hour, bytes: asBytes, values: map[string]string{
			"session:" + oldID: encoded(t, map[any]any{"n": 3, "user": "ada"}),
		}}
		source := migrate.Gorilla{CookieName: "app", Redis: r.do, Unsigned: true}
		id, ok := source.ID(header("app=" + oldID))
		if !ok || id != oldID {
			t.Fatalf("ID: %q, %v", id, ok)
		}
		old, err := source.Load(t.Context(), id)
		var n int
		if err != nil || !old.Get("n", &n) || n != 3 || time.Until(old.Expires) > time.Hour {
			t.Errorf("Load: %+v, %v", old, err)
		}
		if err := source.End(t.Context(), id); err != nil || len(r.values) != 0 {
			t.Errorf("End: %v, %v is left", err, r.values)
		}
		if _, err := source.Load(t.Context(), id); !errors.Is(err, migrate.ErrNone) {
			t.Errorf("Load after End: %v, want ErrNone", err)
		}
	}
}

// TestCookiesThatNameNothing: a source takes no cookie that is too short, too long or badly signed.
func TestCookiesThatNameNothing(t *testing.T) {
	sources := map[string]migrate.Source{
		"session":    migrate.SCS{},
		"session_id": migrate.Fiber{},
		"app":        migrate.Gorilla{CookieName: "app", Keys: [][]byte{secret}},
	}
	for name, source := range sources {
		for _, value := range []string{"", "short", strings.Repeat("x", 9<<10)} {
			if id, ok := source.ID(header(name + "=" + value)); ok {
				t.Errorf("%s: %.20q is the id %.20q", name, value, id)
			}
		}
	}
	if id, ok := sources["app"].ID(header("app=" + oldID)); ok {
		t.Errorf("a cookie that is not signed is the id %q", id)
	}
}

// TestSessionThatIsOverIsNotMoved: a store of scs may keep a session after its deadline, without
// any TTL.
func TestSessionThatIsOverIsNotMoved(t *testing.T) {
	type stored struct {
		Deadline time.Time
		Values   map[string]any
	}
	r := &fakeRedis{ttl: -1, values: map[string]string{}}
	source := migrate.SCS{Redis: r.do, Lifetime: time.Hour}
	load := func(deadline time.Time) (*migrate.Old, error) {
		r.values["scs:session:"+oldID] = encoded(t, stored{deadline, map[string]any{"n": 1}})
		return source.Load(t.Context(), oldID)
	}
	if _, err := load(time.Now().Add(-time.Second)); !errors.Is(err, migrate.ErrNone) {
		t.Errorf("after the deadline: %v, want ErrNone", err)
	}
	deadline := time.Now().Add(time.Minute)
	old, err := load(deadline)
	if err != nil || !old.Deadline.Equal(deadline) || !old.Authenticated.Equal(deadline.Add(-time.Hour)) || old.Expires.IsZero() {
		t.Errorf("before the deadline: %+v, %v", old, err)
	}
}

// TestOldGetConverts: what is stored in one type is read as another, if nothing is lost.
func TestOldGetConverts(t *testing.T) {
	now := time.Now().UTC()
	old := &migrate.Old{Values: map[any]any{
		"int": 7, "float": 7.0, "half": 7.5, "text": "x", "nil": nil, "map": map[string]any{"tea": 2.0}, "time": now,
		"time as text": now.Format(time.RFC3339Nano), "func": func() {},
	}}
	var n int64
	for _, key := range []string{"int", "float"} {
		if n = 0; !old.Get(key, &n) || n != 7 {
			t.Errorf("%s: %d", key, n)
		}
	}
	for _, key := range []string{"half", "text", "nil", "func", "absent", "map"} {
		if n = 5; old.Get(key, &n) || n != 5 {
			t.Errorf("%s is the integer %d", key, n)
		}
	}
	var items map[string]int64
	if !old.Get("map", &items) || items["tea"] != 2 {
		t.Errorf("map: %v", items)
	}
	for _, key := range []string{"time", "time as text"} {
		var at time.Time
		if !old.Get(key, &at) || !at.Equal(now) {
			t.Errorf("%s: %v", key, at)
		}
	}
}

// TestUnknownAuthenticationIsOld: without a time of authentication a user does not pass a route
// that asks for a recent one, and the deadline of the old session stays.
func TestUnknownAuthenticationIsOld(t *testing.T) {
	r := &fakeRedis{ttl: time.Hour, values: map[string]string{}}
	deadline := time.Now().Add(time.Minute)
	r.values["scs:session:"+oldID] = encoded(t, struct {
		Deadline time.Time
		Values   map[string]any
	}{deadline, map[string]any{"user": "ada"}})
	store := memstore.New()
	defer store.Close()
	b := &browser{t: t, m: newManager(t, store, session.Config{}), cookies: map[string]string{"session": oldID}}
	migration, err := migrate.New(b.m, store, migrate.SCS{Redis: r.do}, migrate.Options{
		Move: func(_ context.Context, old *migrate.Old, _ *session.Session) (*session.Login, error) {
			var l session.Login
			old.Get("user", &l.User)
			return &l, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.doWith(func(next http.Handler) http.Handler { return b.m.Handler(migration.Handler(next)) },
		func(ctx context.Context, s *session.Session) error {
			i := s.Info()
			if i.User != "ada" || time.Since(i.Authenticated) < 24*time.Hour || i.Deadline.After(deadline.Add(time.Second)) {
				t.Errorf("%+v", i)
			}
			if err := (session.Route{MaxAuthAge: time.Hour}).Check(ctx); !errors.Is(err, session.ErrNotFresh) {
				t.Errorf("a route with MaxAuthAge: %v, want ErrNotFresh", err)
			}
			return nil
		})
	if len(r.values) != 0 || b.cookies["session"] != "" {
		t.Errorf("the old session has not ended: %v, %v", r.values, b.cookies)
	}
}

// TestOldCookieMovesOnce: an old session that cannot be deleted, as one in a cookie, moves once.
// The old cookie names no session long after the sign-out, when the store has no marker of the end
// any more.
func TestOldCookieMovesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeRedis{ttl: 24 * time.Hour, kept: true, values: map[string]string{
			"session:" + oldID: encoded(t, map[any]any{"user": "ada"}),
		}}
		store := memstore.New()
		defer store.Close()
		source := migrate.Gorilla{CookieName: "app", Redis: r.do, Unsigned: true}
		b := &browser{t: t, m: newManager(t, store, session.Config{}), cookies: map[string]string{"app": oldID}}
		migration, err := migrate.New(b.m, store, source, migrate.Options{
			Move: func(_ context.Context, old *migrate.Old, _ *session.Session) (*session.Login, error) {
				var l session.Login
				old.Get("user", &l.User)
				return &l, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		middleware := func(next http.Handler) http.Handler { return b.m.Handler(migration.Handler(next)) }
		visit := func(v *browser, want string) {
			t.Helper()
			v.doWith(middleware, func(_ context.Context, s *session.Session) error {
				if s.User() != want {
					t.Errorf("the user is %q, want %q", s.User(), want)
				}
				return nil
			})
		}
		old := b.tab()
		visit(b, "ada")
		visit(old.tab(), "ada") // the response to the first request was lost
		b.doWith(middleware, func(ctx context.Context, s *session.Session) error { return s.SignOut(ctx) })
		for range 3 {
			visit(old.tab(), "")
			time.Sleep(time.Hour)
		}
	})
}

// TestRevokedUserIsNotMoved: RevokeUser covers an old session whose time of authentication is not
// known, also when the store has forgotten the revocation.
func TestRevokedUserIsNotMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeRedis{ttl: 30 * 24 * time.Hour, values: map[string]string{
			"session:" + oldID: encoded(t, map[any]any{"user": "ada"}),
		}}
		store := memstore.New()
		defer store.Close()
		source := migrate.Gorilla{CookieName: "app", Redis: r.do, Unsigned: true}
		b := &browser{t: t, m: newManager(t, store, session.Config{}), cookies: map[string]string{"app": oldID}}
		migration, err := migrate.New(b.m, store, source, migrate.Options{
			Move: func(context.Context, *migrate.Old, *session.Session) (*session.Login, error) {
				return &session.Login{User: "ada"}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second call renews the note
			if n, err := migration.RevokeUser(t.Context(), "ada"); n != 0 || err != nil {
				t.Fatalf("RevokeUser: %d, %v", n, err)
			}
			time.Sleep(48 * time.Hour)
		}
		b.doWith(func(next http.Handler) http.Handler { return b.m.Handler(migration.Handler(next)) },
			func(_ context.Context, s *session.Session) error {
				if s.User() != "" {
					t.Errorf("the user is %q after the revocation", s.User())
				}
				return nil
			})
		if len(r.values) != 0 || len(b.cookies) != 0 {
			t.Errorf("the old session has not ended: %v, %v", r.values, b.cookies)
		}
	})
}

// TestCookieInAnotherSpellingMovesNothing: base64 has bits that its decoder ignores. A cookie that
// differs in these bits has a valid signature. It must not bring back a session that was moved.
func TestCookieInAnotherSpellingMovesNothing(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	cookie := ""
	for n := 0; !strings.HasSuffix(cookie, "="); n++ {
		var err error
		values := map[any]any{"user": "ada", "fill": strings.Repeat("x", n)}
		if cookie, err = securecookie.New(key, nil).Encode("app", values); err != nil {
			t.Fatal(err)
		}
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(strings.TrimRight(cookie, "=")) - 1
	next := digits[strings.IndexByte(digits, cookie[last])+1]
	other := cookie[:last] + string(next) + cookie[last+1:]

	store := memstore.New()
	defer store.Close()
	source := migrate.Gorilla{CookieName: "app", Keys: [][]byte{key}}
	m := newManager(t, store, session.Config{})
	migration, err := migrate.New(m, store, source, migrate.Options{
		Move: func(_ context.Context, old *migrate.Old, _ *session.Session) (*session.Login, error) {
			var l session.Login
			old.Get("user", &l.User)
			return &l, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ cookie, want string }{{cookie, "ada"}, {other, ""}} {
		b := &browser{t: t, m: m, cookies: map[string]string{"app": c.cookie}}
		b.doWith(func(next http.Handler) http.Handler { return m.Handler(migration.Handler(next)) },
			func(ctx context.Context, s *session.Session) error {
				if s.User() != c.want {
					t.Errorf("the user is %q, want %q", s.User(), c.want)
				}
				return s.SignOut(ctx)
			})
	}
}
