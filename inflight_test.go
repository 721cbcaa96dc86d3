package session_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
)

func signOut(ses *session.Session) error { return ses.SignOut(context.Background()) }
func renew(ses *session.Session) error   { return ses.Renew(context.Background()) }

// TestTokenChangesWhileARequestRuns: the slow request sees what it read, its writes are refused, and it never sends a cookie over
// the newer one.
func TestTokenChangesWhileARequestRuns(t *testing.T) {
	meanwhile := map[string]func(*session.Session) error{"signed out": signOut, "renewed": renew}
	slow := map[string]func(ctx context.Context, ses *session.Session) error{
		"writes":         func(ctx context.Context, ses *session.Session) error { n.Add(ses, 1); return nil },
		"writes, header": func(ctx context.Context, ses *session.Session) error { n.Add(ses, 1); return nil },
		"commits":        func(ctx context.Context, ses *session.Session) error { n.Add(ses, 1); return ses.Commit(ctx) },
		"renews":         func(ctx context.Context, ses *session.Session) error { return ses.Renew(ctx) },
		"updates": func(ctx context.Context, ses *session.Session) error {
			_, err := theme.Update(ctx, ses, func(string) (string, error) { return "dark", nil })
			return err
		},
		"reloads, writes": func(ctx context.Context, ses *session.Session) error {
			if err := ses.Reload(ctx); !errors.Is(err, session.ErrEnded) {
				t.Errorf("Reload: %v, want ErrEnded", err)
			}
			if err := ses.Reload(ctx); !errors.Is(err, session.ErrEnded) {
				t.Errorf("Reload again: %v, want ErrEnded", err)
			}
			n.Add(ses, 1)
			return nil
		},
		"fresh route, writes": func(ctx context.Context, ses *session.Session) error {
			if err := (session.Route{Fresh: true}).Check(ctx); err != nil {
				t.Errorf("Check: %v", err)
			}
			n.Add(ses, 1)
			return nil
		},
		"renewed itself before, writes": nil,
	}
	for what, other := range meanwhile {
		for does, f := range slow {
			t.Run(what+"/"+does, func(t *testing.T) {
				s := newSite(t, session.Config{})
				v := s.known()
				late := v.also()
				w := late.handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
					if f == nil {
						if err := ses.Renew(r.Context()); err != nil {
							t.Error(err)
						}
						s.store.endAll(t)
						n.Add(ses, 1)
						return nil
					}
					if w := v.do(other); w.Code != 200 {
						t.Errorf("meanwhile: %d", w.Code)
					}
					if n.Get(ses) != 1 {
						t.Error("the view changed under the handler")
					}
					return f(r.Context(), ses)
				}))
				wantAnswer(t, w, 409)
				if len(cookies(w)) != 0 {
					t.Errorf("Set-Cookie %q", cookies(w))
				}
				if want := int64(1); what == "renewed" && f != nil && v.count() != want {
					t.Errorf("n = %d, want %d", v.count(), want)
				}
				if what == "signed out" && s.store.Len() != 0 {
					t.Errorf("%d sessions, want none", s.store.Len())
				}
			})
		}
	}
}

// TestReadingGoesOnWhileTheSessionEnds: who only reads gets a page, and no cookie.
func TestReadingGoesOnWhileTheSessionEnds(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	w := v.also().do(func(ses *session.Session) error { v.do(signOut); n.Get(ses); return nil })
	if w.Code != 200 || len(cookies(w)) != 0 || s.store.Len() != 0 {
		t.Errorf("%d, Set-Cookie %q, %d sessions", w.Code, cookies(w), s.store.Len())
	}
}

// TestReplacedToken: a request that arrives with the token before the renewal.
func TestReplacedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		old := v.also()
		if v.do(renew); v.cookie == old.cookie {
			t.Fatal("the token is the same")
		}
		w := old.also().do(func(ses *session.Session) error {
			if n.Get(ses) != 0 || ses.Info().Handle != "" {
				t.Error("the old token still leads to the session")
			}
			return nil
		})
		if w.Code != 200 || len(cookies(w)) != 0 {
			t.Errorf("reading: %d, Set-Cookie %q", w.Code, cookies(w))
		}
		w = old.also().do(func(ses *session.Session) error { n.Add(ses, 1); return nil })
		if wantAnswer(t, w, 409); len(cookies(w)) != 0 {
			t.Errorf("writing: Set-Cookie %q", cookies(w))
		}
	})
}

// TestRenewKeepsTheSession: fields and handle stay, and the cookie is a new one, once.
func TestRenewKeepsTheSession(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	handle := func() (h string) {
		v.also().do(func(ses *session.Session) error { h = ses.Info().Handle; return nil })
		return h
	}
	before := handle()
	w := v.do(func(ses *session.Session) error { n.Add(ses, 1); renew(ses); return renew(ses) })
	if len(cookies(w)) != 1 || v.count() != 2 || handle() != before || before == "" {
		t.Errorf("Set-Cookie %q, n = %d, handle %q, before %q", cookies(w), v.count(), handle(), before)
	}
	fresh := s.visitor()
	if w := fresh.do(renew); w.Code != 200 || len(cookies(w)) != 0 {
		t.Errorf("nothing to renew: %d, Set-Cookie %q", w.Code, cookies(w))
	}
}

func TestSignOut(t *testing.T) {
	t.Run("deletes the cookie", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		old := v.also()
		w := v.do(signOut)
		if c := cookies(w); len(c) != 1 || c[0] != "__Host-session=; Path=/; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; HttpOnly; Secure; SameSite=Lax" {
			t.Errorf("Set-Cookie %q", c)
		}
		if old.count() != 0 || s.store.Len() != 0 {
			t.Errorf("the old cookie finds n = %d", old.count())
		}
	})
	t.Run("drops what was not committed", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		w := v.do(func(ses *session.Session) error { n.Add(ses, 1); return signOut(ses) })
		if w.Code != 200 || s.store.Len() != 0 {
			t.Errorf("%d, %d sessions", w.Code, s.store.Len())
		}
	})
	t.Run("then a write makes a new session", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		old := v.also()
		w := v.do(func(ses *session.Session) error {
			if err := signOut(ses); err != nil {
				return err
			}
			if n.Get(ses) != 0 {
				t.Error("the ended session's field is still there")
			}
			n.Add(ses, 7)
			return nil
		})
		if len(cookies(w)) != 1 || v.count() != 7 || old.count() != 0 {
			t.Errorf("Set-Cookie %q, n = %d, want 7; the old cookie finds %d", cookies(w), v.count(), old.count())
		}
	})
	t.Run("of a session made by the same request", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.visitor()
		w := v.do(func(ses *session.Session) error {
			n.Add(ses, 1)
			if err := ses.Commit(context.Background()); err != nil {
				return err
			}
			return signOut(ses)
		})
		if w.Code != 200 || v.cookie != "" || s.store.Len() != 0 {
			t.Errorf("%d, cookie %q, %d sessions", w.Code, v.cookie, s.store.Len())
		}
	})
	t.Run("without a session", func(t *testing.T) {
		s := newSite(t, session.Config{})
		if w := s.visitor().do(signOut); w.Code != 200 || len(cookies(w)) != 0 || s.store.ends.Load() != 0 {
			t.Errorf("%d, Set-Cookie %q, %d ended", w.Code, cookies(w), s.store.ends.Load())
		}
	})
	t.Run("after an error that stuck", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		s.store.fail("apply", errDown)
		w := v.handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			if ses.Commit(r.Context()) == nil || signOut(ses) != nil {
				t.Error("want an error of Commit and none of SignOut")
			}
			s.store.fail("create", errDown)
			n.Add(ses, 1)
			http.Error(w, "mine", 400) // it was told of another error
			return nil
		}))
		wantAnswer(t, w, 503)
	})
}

// TestSignOutWithTheStoreDown: 503, the cookie goes all the same, and nothing new is made.
func TestSignOutWithTheStoreDown(t *testing.T) {
	down := session.Route{Down: session.DownAnonymous}
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"read before": func(h http.Handler) http.Handler { return h },
		"degraded":    down.Handler,
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		old := v.also()
		if name == "degraded" {
			s.store.down()
		}
		w := v.handle(wrap(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			s.store.down()
			err := ses.SignOut(r.Context())
			if !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("SignOut: %v", err)
			}
			n.Add(ses, 1)
			return err
		})))
		wantAnswer(t, w, 503)
		if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 || c[0].Value != "" {
			t.Errorf("%s: Set-Cookie %q, want its deletion", name, cookies(w))
		}
		s.store.up()
		if old.count() != 1 || s.store.Len() != 1 {
			t.Errorf("%s: n = %d, %d sessions", name, old.count(), s.store.Len())
		}
	}
}

// TestEndedBefore: a visitor whose session has ended is a new one.
func TestEndedBefore(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	old := v.cookie
	v.also().do(signOut)
	w := v.do(func(ses *session.Session) error { n.Get(ses); return nil })
	if len(cookies(w)) != 0 {
		t.Errorf("reading sends Set-Cookie %q", cookies(w))
	}
	w = v.do(func(ses *session.Session) error { n.Add(ses, 3); return nil })
	if w.Code != 200 || len(cookies(w)) != 1 || v.cookie == old || v.count() != 3 {
		t.Errorf("%d, Set-Cookie %q, n = %d", w.Code, cookies(w), v.count())
	}
}

// TestStoreDownSignsNobodyOut: an error, and no cookie.
func TestStoreDownSignsNobodyOut(t *testing.T) {
	for name, f := range map[string]func(ses *session.Session) error{
		"read":  func(ses *session.Session) error { n.Get(ses); return nil },
		"write": func(ses *session.Session) error { n.Add(ses, 1); return nil },
	} {
		s := newSite(t, session.Config{})
		v := s.known()
		s.store.down()
		w := v.do(f)
		if wantAnswer(t, w, 503); len(cookies(w)) != 0 {
			t.Errorf("%s: Set-Cookie %q", name, cookies(w))
		}
		if w := s.visitor().do(f); name == "read" && w.Code != 200 || name == "write" && w.Code != 503 || len(cookies(w)) != 0 {
			t.Errorf("%s by an unknown visitor: %d, Set-Cookie %q", name, w.Code, cookies(w))
		}
		s.store.up()
		if v.count() != 1 {
			t.Errorf("%s: the session is lost", name)
		}
	}
}

// TestReloadSeesOthers is a connection that lives long.
func TestReloadSeesOthers(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	v.also().handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		io.WriteString(w, "stream")
		v.do(func(ses *session.Session) error { n.Add(ses, 1); return nil })
		n.Add(ses, 100)
		if n.Get(ses) != 101 {
			t.Errorf("own view: %d", n.Get(ses))
		}
		if err := ses.Reload(r.Context()); err != nil || n.Get(ses) != 2 {
			t.Errorf("Reload: %v, n = %d, want 2", err, n.Get(ses))
		}
		s.store.down()
		if err := ses.Reload(r.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Reload with the store down: %v", err)
		}
		s.store.up()
		if err := ses.Reload(r.Context()); err != nil || n.Get(ses) != 2 {
			t.Errorf("Reload: %v, n = %d, want 2", err, n.Get(ses))
		}
		v.do(signOut)
		if err := ses.Reload(r.Context()); !errors.Is(err, session.ErrEnded) || n.Get(ses) != 0 {
			t.Errorf("Reload of an ended session: %v, n = %d", err, n.Get(ses))
		}
		return nil
	}))
	if v.count() != 0 {
		t.Errorf("n = %d", v.count())
	}
}

// TestLateFrom: a request that asks for its session when the word that it moved is forgotten makes none over the browser's newer cookie.
func TestLateFrom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		late := v.also()
		w := late.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v.do(signIn("ada"))
			time.Sleep(61 * time.Second) // an upload
			ses, err := session.From(r.Context())
			if err != nil {
				t.Error(err)
				return
			}
			n.Add(ses, 1)
		}))
		if w.Code != 409 || len(cookies(w)) != 0 {
			t.Errorf("%d, Set-Cookie %q; want 409 and none", w.Code, cookies(w))
		}
	})
}
