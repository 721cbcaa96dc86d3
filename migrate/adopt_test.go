package migrate_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

const (
	visits session.Counter       = "visits"
	theme  session.Value[string] = "theme"
)

var secret = []byte("an old session's cookie, 32 bytes")

// browser is a client with cookies, and the Manager that it visits.
type browser struct {
	t       *testing.T
	m       *session.Manager
	cookies map[string]string
}

func newManager(t *testing.T, store driver.Store, cfg session.Config) *session.Manager {
	t.Helper()
	m, err := session.New(store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tab returns a browser with the same cookies.
func (b *browser) tab() *browser {
	next := *b
	next.cookies = map[string]string{}
	for k, v := range b.cookies {
		next.cookies[k] = v
	}
	return &next
}

// do makes a request. f runs in the handler.
func (b *browser) do(f func(ctx context.Context, s *session.Session) error) *httptest.ResponseRecorder {
	b.t.Helper()
	return b.doWith(b.m.Handler, f)
}

func (b *browser) doWith(
	middleware func(http.Handler) http.Handler, f func(ctx context.Context, s *session.Session) error,
) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), "GET", "https://example.test/", nil)
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	middleware(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return f(r.Context(), s)
	})).ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return w
}

// adopt returns a handler that adopts the session of secret.
func adopt(l *session.Login) func(context.Context, *session.Session) error {
	return func(ctx context.Context, s *session.Session) error {
		visits.Add(s, 5)
		return s.Adopt(ctx, secret, l)
	}
}

// read fails unless the session has these values.
func (b *browser) mustRead(what string, count int64, user string) {
	b.t.Helper()
	w := b.do(func(_ context.Context, s *session.Session) error {
		if visits.Get(s) != count || s.User() != user {
			b.t.Errorf("%s: visits = %d of %q, want %d of %q", what, visits.Get(s), s.User(), count, user)
		}
		return nil
	})
	if w.Code != 200 {
		b.t.Errorf("%s: status %d", what, w.Code)
	}
}

// TestAdoptAtOnceMakesOneSession: many requests on two nodes adopt one session. All end in the same
// session, which has its first values once.
func TestAdoptAtOnceMakesOneSession(t *testing.T) {
	for _, l := range []*session.Login{nil, {User: "ada"}} {
		store := memstore.New()
		defer store.Close()
		nodes := []*session.Manager{
			newManager(t, store, session.Config{MaxPerUser: 1}), newManager(t, store, session.Config{MaxPerUser: 1}),
		}
		browsers := make([]*browser, 20)
		var wg sync.WaitGroup
		for i := range browsers {
			browsers[i] = &browser{t: t, m: nodes[i%2], cookies: map[string]string{}}
			wg.Go(func() {
				if w := browsers[i].do(adopt(l)); w.Code != 200 {
					t.Errorf("status %d: %s", w.Code, w.Body)
				}
			})
		}
		wg.Wait()
		user := ""
		if l != nil {
			user = l.User
		}
		for _, b := range browsers {
			b.mustRead("after adopting at once", 5, user)
		}
		if store.Len() != 1 {
			t.Errorf("%d sessions are stored, want 1", store.Len())
		}
	}
}

// TestAdoptedTokenIsReplaced: the derived token is replaced after a minute although RotateEvery is
// off. After that, the old secret names no session.
func TestAdoptedTokenIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		defer store.Close()
		b := &browser{t: t, m: newManager(t, store, session.Config{}), cookies: map[string]string{}}
		b.do(adopt(nil))
		derived, late := b.tab(), &browser{t: t, m: b.m, cookies: map[string]string{}}
		late.do(adopt(nil)) // the response to the first request may have been lost
		late.mustRead("a second response", 5, "")
		time.Sleep(time.Minute)
		b.mustRead("a minute later", 5, "")
		if b.cookies["__Host-session-anon"] == derived.cookies["__Host-session-anon"] {
			t.Fatal("the derived token was not replaced")
		}
		b.mustRead("with the new token", 5, "")
		time.Sleep(driver.RotationGrace)
		b.mustRead("with the new token", 5, "")
		again := &browser{t: t, m: b.m, cookies: map[string]string{}}
		again.do(func(ctx context.Context, s *session.Session) error {
			if err := s.Adopt(ctx, secret, nil); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("Adopt after the token was replaced: %v, want ErrNotFound", err)
			}
			visits.Add(s, 1)
			return nil
		})
		again.mustRead("an unknown visitor", 1, "")
		b.mustRead("the session itself", 5, "")
	})
}

// TestAdoptDoesNotUndoASignOut: a request that is slower than a sign-out does not bring the session
// back, whether it adopts or resumes.
func TestAdoptDoesNotUndoASignOut(t *testing.T) {
	for _, l := range []*session.Login{nil, {User: "ada"}} {
		store := memstore.New()
		defer store.Close()
		b := &browser{t: t, m: newManager(t, store, session.Config{}), cookies: map[string]string{}}
		handle := ""
		b.do(func(ctx context.Context, s *session.Session) error {
			err := adopt(l)(ctx, s)
			handle = s.Info().Handle
			return err
		})
		slow := &browser{t: t, m: b.m, cookies: map[string]string{}}
		b.do(func(ctx context.Context, s *session.Session) error { return s.SignOut(ctx) })
		slow.do(func(ctx context.Context, s *session.Session) error {
			if err := s.Adopt(ctx, secret, l); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("Adopt after the sign-out: %v, want ErrNotFound", err)
			}
			if err := s.Resume(ctx, secret, handle); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("Resume after the sign-out: %v, want ErrNotFound", err)
			}
			return nil
		})
		if len(slow.cookies) != 0 || store.Len() != 0 {
			t.Errorf("cookies %v, %d sessions, want none", slow.cookies, store.Len())
		}
	}
}

// TestAdoptRefusesWhatItMust: bad secrets and handles, a visitor with a session, another site.
func TestAdoptRefusesWhatItMust(t *testing.T) {
	store := memstore.New()
	defer store.Close()
	b := &browser{t: t, m: newManager(t, store, session.Config{}), cookies: map[string]string{}}
	must := func(want, err error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	b.do(func(ctx context.Context, s *session.Session) error {
		must(session.ErrInvalid, s.Adopt(ctx, secret[:15], nil))
		must(session.ErrInvalid, s.Adopt(ctx, secret, &session.Login{}))
		must(session.ErrInvalid, s.Resume(ctx, secret, "no handle"))
		must(session.ErrInvalid, s.Resume(ctx, secret, driver.ID{}.String()))
		must(nil, s.Adopt(ctx, secret, nil))
		must(session.ErrInvalid, s.Adopt(ctx, secret, nil))
		return nil
	})
	r := httptest.NewRequestWithContext(t.Context(), "POST", "https://example.test/", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	b.m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Adopt(r.Context(), secret, nil)
	})).ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || strings.Join(w.Header()["Set-Cookie"], "") != "" {
		t.Errorf("a post from another site: %d, %q", w.Code, w.Header()["Set-Cookie"])
	}
}
