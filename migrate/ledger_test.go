package migrate_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/migrate"
)

// failingStore fails one Create or one Apply.
type failingStore struct {
	*memstore.Store
	creates, applies int // until the one that fails; 0: none fails
}

var errDown = errors.New("down")

func (f *failingStore) Create(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	if f.creates--; f.creates == 0 {
		return nil, errDown
	}
	return f.Store.Create(ctx, id, spec, c)
}

func (f *failingStore) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if f.applies--; f.applies == 0 {
		return nil, errDown
	}
	return f.Store.Apply(ctx, id, c)
}

func moveUser(_ context.Context, old *migrate.Old, _ *session.Session) (*session.Login, error) {
	var l session.Login
	old.Get("user", &l.User)
	return &l, nil
}

// mustBe checks who is signed in during a request.
func (b *browser) mustBe(t *testing.T, middleware func(http.Handler) http.Handler, user string) {
	t.Helper()
	b.doWith(middleware, func(_ context.Context, s *session.Session) error {
		if s.User() != user {
			t.Errorf("signed in: %q, want %q", s.User(), user)
		}
		return nil
	})
}

// TestMoveThatFailsHalfWayIsCompleted: whatever fails once, the visitor's next request completes
// the move. After the sign-out, the old cookie signs nobody in, although the old session cannot be
// deleted.
func TestMoveThatFailsHalfWayIsCompleted(t *testing.T) {
	for name, fail := range map[string]func(f *failingStore, r *fakeRedis){
		"the note at the beginning": func(f *failingStore, _ *fakeRedis) { f.creates = 1 },
		"the note at the end":       func(f *failingStore, _ *fakeRedis) { f.applies = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &fakeRedis{ttl: 24 * time.Hour, kept: true, values: map[string]string{"session:" + oldID: encoded(t, map[any]any{"user": "ada"})}}
				store := &failingStore{Store: memstore.New()}
				defer store.Close()
				fail(store, r)
				b := &browser{t: t, m: newManager(t, store, session.Config{}), cookies: map[string]string{"app": oldID}}
				migration, err := migrate.New(b.m, store, migrate.Gorilla{CookieName: "app", Redis: r.do, Unsigned: true},
					migrate.Options{Move: moveUser})
				if err != nil {
					t.Fatal(err)
				}
				middleware := func(next http.Handler) http.Handler { return b.m.Handler(migration.Handler(next)) }
				stolen := b.tab()
				if w := b.doWith(middleware, func(context.Context, *session.Session) error {
					t.Error("the handler runs")
					return nil
				}); w.Code != http.StatusServiceUnavailable {
					t.Errorf("status %d, want 503", w.Code)
				}
				b.mustBe(t, middleware, "ada")
				b.doWith(middleware, func(ctx context.Context, s *session.Session) error { return s.SignOut(ctx) })
				time.Sleep(time.Hour)
				stolen.mustBe(t, middleware, "")
			})
		})
	}
}

// TestRefusedMoveIsNotedWhenItSucceeds: a move that a limit refused takes place later. After the
// sign-out, the old cookie signs nobody in, although the old session cannot be deleted.
func TestRefusedMoveIsNotedWhenItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeRedis{ttl: 24 * time.Hour, kept: true, values: map[string]string{"session:" + oldID: encoded(t, map[any]any{"user": "ada"})}}
		store := memstore.New()
		defer store.Close()
		m := newManager(t, store, session.Config{MaxPerUser: 1, RefuseExtra: true})
		b := &browser{t: t, m: m, cookies: map[string]string{"app": oldID}}
		migration, err := migrate.New(m, store, migrate.Gorilla{CookieName: "app", Redis: r.do, Unsigned: true},
			migrate.Options{Move: moveUser})
		if err != nil {
			t.Fatal(err)
		}
		middleware := func(next http.Handler) http.Handler { return m.Handler(migration.Handler(next)) }
		stolen := b.tab()
		other := &browser{t: t, m: m, cookies: map[string]string{}}
		other.do(func(ctx context.Context, s *session.Session) error {
			return s.SignIn(ctx, session.Login{User: "ada"})
		})
		b.mustBe(t, middleware, "")
		other.do(func(ctx context.Context, s *session.Session) error { return s.SignOut(ctx) })
		b.mustBe(t, middleware, "ada")
		b.doWith(middleware, func(ctx context.Context, s *session.Session) error { return s.SignOut(ctx) })
		time.Sleep(time.Hour)
		stolen.mustBe(t, middleware, "")
	})
}
