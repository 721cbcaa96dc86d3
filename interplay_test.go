package session_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// recordsNothing is a store that has no record at hand after any change, and no ability that it can do without.
type recordsNothing struct{ driver.UserStore }

func (b recordsNothing) Create(ctx context.Context, id driver.ID, o *driver.Origin, c *driver.Change) (*driver.Result, error) {
	return without(b.UserStore.Create(ctx, id, o, c))
}

func (b recordsNothing) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	return without(b.UserStore.Apply(ctx, id, c))
}

func (b recordsNothing) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	return without(b.UserStore.SignIn(ctx, id, in))
}

func without(res *driver.Result, err error) (*driver.Result, error) {
	if res != nil {
		res.Record = nil
	}
	return res, err
}

// view is what a request should see.
type view struct {
	stored      bool
	user, theme string
	entry       string
	n           int64
}

// model is a visitor, and what is to be expected of the session.
type model struct {
	committed, now view
	ops            []func(*view) // of now, not committed
	events         []session.EventKind
	csrf, old      string // a token of the session, and of one before
}

func (m *model) change(f func(*view)) {
	f(&m.now)
	m.ops = append(m.ops, f)
}

func (m *model) commit() {
	if len(m.ops) > 0 && !m.committed.stored {
		m.now.stored = true
		m.events = append(m.events, session.EventCreated)
	}
	m.committed, m.ops = m.now, nil
}

func (m *model) signIn(user string) {
	next := view{}
	if m.committed.user == "" || m.committed.user == user {
		next = m.committed
	}
	next.stored, next.user = true, user
	for _, f := range m.ops {
		f(&next)
	}
	m.now, m.committed, m.ops = next, next, nil
	m.events = append(m.events, session.EventSignedIn)
	m.old, m.csrf = m.csrf, ""
}

func (m *model) signOut() {
	if m.committed.stored {
		m.events = append(m.events, session.EventSignedOut)
	}
	*m = model{events: m.events, old: m.csrf}
}

// step does one thing to the session and to the model, and returns its name.
func (m *model) step(ctx context.Context, s *session.Session) (name string, err error) {
	text := fmt.Sprint(rand.IntN(1000))
	switch rand.IntN(14) {
	case 0, 1:
		theme.Set(s, text)
		m.change(func(v *view) { v.theme = text })
		return "set", nil
	case 2, 3:
		n.Add(s, 3)
		m.change(func(v *view) { v.n += 3 })
		return "add", nil
	case 4:
		secrets.Set(s, "a", text)
		m.change(func(v *view) { v.entry = text })
		return "set entry", nil
	case 5:
		s.Clear()
		m.change(func(v *view) { v.theme, v.entry, v.n = "", "", 0 })
		return "clear", nil
	case 6:
		m.change(func(v *view) { v.theme += "+" })
		m.commit()
		_, err = theme.Update(ctx, s, func(t string) (string, error) { return t + "+", nil })
		return "update", err
	case 7:
		if m.now.entry != "" {
			m.change(func(v *view) { v.entry = "" })
			m.commit()
		}
		_, _, err = secrets.Take(ctx, s, "a")
		return "take", err
	case 8:
		m.commit()
		return "commit", s.Commit(ctx)
	case 9:
		was := m.committed.stored
		m.commit()
		if was {
			m.events = append(m.events, session.EventRenewed)
		}
		return "renew", s.Renew(ctx)
	case 10:
		m.now, m.ops = m.committed, nil
		return "reload", s.Reload(ctx)
	case 11:
		user := []string{"ada", "bob"}[rand.IntN(2)]
		m.signIn(user)
		return "sign in " + user, s.SignIn(ctx, session.Login{User: user})
	case 12:
		m.signOut()
		return "sign out", s.SignOut(ctx)
	}
	if !m.committed.stored {
		m.change(func(*view) {})
		m.commit()
	}
	before := m.csrf
	if m.csrf, err = s.CSRFToken(ctx); err != nil {
		return "CSRF token", err
	}
	if s.CheckCSRF(m.csrf) != nil || before != "" && s.CheckCSRF(before) != nil || s.CheckCSRF(m.old) == nil {
		err = errors.New("one of the session's does not pass, or one of another does")
	}
	return "CSRF token", err
}

// TestInterplay does what requests may do, in any order, several of it in one request, and compares with a model of what there should be.
func TestInterplay(t *testing.T) {
	const rounds, requests, steps = 100, 8, 7
	plain, sealed := session.Config{KeepFields: []string{"theme", "secrets", "n"}}, sealing(key(1))
	for name, cfg := range map[string]session.Config{"plain": plain, "sealed": sealed} {
		for _, records := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, records %v", name, records), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					for range rounds {
						mem := memstore.New()
						var store driver.Store = mem
						if !records {
							store = recordsNothing{mem}
						}
						var l told
						cfg.OnEvent, cfg.RotateEvery = l.hear, time.Minute
						sessions, err := session.New(store, cfg)
						if err != nil {
							t.Fatal(err)
						}
						v := (&site{t: t, m: sessions}).visitor()
						var m model
						var done []string
						for range requests {
							time.Sleep(rand.N(2 * time.Minute))
							done = append(done, "| ")
							v.request("POST", sessions.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
								for range rand.IntN(steps) {
									did, err := m.step(r.Context(), s)
									done = append(done, did)
									if err != nil {
										t.Fatalf("%q: %v", done, err)
									}
									entry, _ := secrets.Get(s, "a")
									if now := (view{m.now.stored, s.User(), theme.Get(s), entry, n.Get(s)}); now != m.now {
										t.Fatalf("%q: %+v, want %+v", done, now, m.now)
									}
								}
								return nil
							})))
							m.commit()
							if mem.Len() > 1 || (mem.Len() == 1) != m.committed.stored || (v.cookie != "") != m.committed.stored {
								t.Fatalf("%q: %d sessions, cookie %q, want one: %v", done, mem.Len(), v.cookie, m.committed.stored)
							}
						}
						if records {
							m.tells(t, &l, done)
						}
						mem.Close()
					}
				})
			})
		}
	}
}

// tells compares the events, but for rotations, which time brings.
func (m *model) tells(t *testing.T, l *told, done []string) {
	t.Helper()
	var got []session.EventKind
	for _, e := range l.events {
		if e.Kind != session.EventRotated {
			got = append(got, e.Kind)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(m.events) {
		t.Fatalf("%q: told of %q, want %q", done, got, m.events)
	}
}
