package session_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"iter"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// nodes are Managers on one store, as processes that share it have them.
func nodes(t *testing.T, store driver.Store, configs ...session.Config) []*site {
	t.Helper()
	var all []*site
	for _, cfg := range configs {
		s := &site{t: t, log: &logged{}}
		cfg.Logger = s.discardLog()
		var err error
		if s.m, err = session.New(store, cfg); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// follow collects what a Manager is told by others, from now on; gaps are events of the kind "gap".
func follow(t *testing.T, m *session.Manager) *told {
	l := &told{}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	events := m.Events(ctx)
	go func() {
		for e, err := range events {
			if errors.Is(err, session.ErrGap) {
				e.Kind = "gap"
			} else if err != nil {
				e = session.Event{Kind: "error", Reason: err.Error()}
			}
			l.hear(ctx, e)
		}
	}()
	return l
}

// TestFollow: all nodes hear of what concerns users, in order, and of nothing that a visitor can make up.
func TestFollow(t *testing.T) {
	for name, cfg := range map[string]session.Config{"in clear": {}, "sealed": {Keys: [][]byte{key(1)}}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var local told
				heard := cfg
				heard.OnEvent = local.hear
				n := nodes(t, memstore.New(), heard, cfg)
				l := follow(t, n[1].m)
				anonymous := n[0].known()
				(&visitor{site: n[0], cookie: "__Host-session=x"}).count()
				anonymous.do(renew)
				before := anonymous.info().Handle
				anonymous.do(signIn("a\xffda"))
				after := anonymous.info().Handle
				anonymous.do(renew)
				other := n[1].user("a\xffda")
				handle := other.info().Handle
				n[0].m.RevokeUser(t.Context(), "a\xffda", after)
				anonymous.do(signOut)
				last := n[0].user("bob").info().Handle
				time.Sleep(3 * time.Hour)
				stolen := n[0].known()
				stale := stolen.also()
				stolen.do(renew)
				time.Sleep(2 * time.Minute)
				stale.count()
				n[1].m.RevokeAll(t.Context())
				gone := n[0].known()
				gone.do(signOut)
				synctest.Wait()
				l.want(t, "the other node", "signed in "+after+" a\xffda "+before, "renewed "+after+" a\xffda", "signed in "+handle+" a\xffda",
					"revoked "+handle+" a\xffda", "signed out "+after+" a\xffda", "signed in "+last+" bob", "expired "+last+" bob",
					"expired "+last+" bob", "revoked") // one store in one process: each of its Managers is told
				if got := local.take(); len(got) == 0 || got[0] != "created "+before {
					t.Errorf("here %q", got)
				}
			})
		})
	}
}

// TestFollowUnread: a user's session that is signed out where it could not be read is no visitor's.
func TestFollowUnread(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := newFaulty()
		n := nodes(t, store, session.Config{}, session.Config{})
		l := follow(t, n[1].m)
		v := n[0].user("ada")
		handle := v.info().Handle
		store.fail("load", errDown)
		v.handle(session.Route{Down: session.DownAnonymous}.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
			store.up()
			return ses.SignOut(r.Context())
		})))
		synctest.Wait()
		l.want(t, "the other node", "signed in "+handle+" ada", "signed out "+handle)
	})
}

// peeking is a store that shows what is published.
type peeking struct {
	*memstore.Store
	published bytes.Buffer
}

func (p *peeking) Publish(event []byte) {
	p.published.Write(event)
	p.Store.Publish(event)
}

// TestFollowSealed: with keys the store learns of nobody; who has another key, or none, or made an event up, tells of a gap at most.
func TestFollowSealed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &peeking{Store: memstore.New()}
		n := nodes(t, store, session.Config{Keys: [][]byte{key(1)}}, session.Config{Keys: [][]byte{key(2), key(1)}},
			session.Config{Keys: [][]byte{key(2)}}, session.Config{})
		var all []*told
		for _, s := range n {
			all = append(all, follow(t, s.m))
		}
		handle := n[0].user("ada").info().Handle
		if p := store.published.String(); strings.Contains(p, "ada") || strings.Contains(p, base64.StdEncoding.EncodeToString([]byte("ada"))) ||
			strings.Contains(p, handle) || p == "" {
			t.Errorf("the store is told %q", p)
		}
		synctest.Wait()
		for i, want := range []string{"signed in " + handle + " ada", "signed in " + handle + " ada", "gap", "gap"} {
			all[i].want(t, "node "+string(rune('0'+i)), want)
		}
		for _, made := range []string{"", "x", "\x01", "\x01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "{}", `{"kind":"revoked","time":1}`} {
			store.Publish([]byte(made))
			synctest.Wait()
			all[0].want(t, made, "gap")
		}
		all[3].take()
	})
}

// TestFollowFails: no feed, no store, and a store whose feed ends.
func TestFollowFails(t *testing.T) {
	first := func(m *session.Manager) error {
		for _, err := range m.Events(t.Context()) {
			return err
		}
		return nil
	}
	m, err := session.New(struct{ driver.UserStore }{memstore.New()}, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := first(m); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v, want ErrUnsupported", err)
	}
	store := memstore.New()
	m, err = session.New(store, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	events := m.Events(t.Context())
	store.Close()
	for _, err := range events {
		if !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable", err)
		}
	}
	if err := first(m); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	next, stop := iter.Pull2(m.Events(t.Context()))
	defer stop()
	next()
}

// TestFollowTooSlowly: who does not keep up finds a gap where events are missing, and what comes after.
func TestFollowTooSlowly(t *testing.T) {
	store := memstore.New()
	m, err := session.New(store, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	events := m.Events(t.Context())
	const published = 10_000
	for i := range published {
		store.Publish([]byte(`{"kind":"revoked","time":` + string(rune('1'+i%9)) + `}`))
	}
	next, stop := iter.Pull2(events)
	defer stop()
	n := 0
	for ; ; n++ {
		if _, err, _ := next(); err != nil {
			if !errors.Is(err, session.ErrGap) {
				t.Error(err)
			}
			break
		}
	}
	if n == 0 || n >= published {
		t.Errorf("%d events before the gap", n)
	}
	store.Publish([]byte(`{"kind":"stolen","time":1}`))
	if e, err, _ := next(); err != nil || e.Kind != session.EventStolen {
		t.Errorf("after the gap %+v, %v", e, err)
	}
}

func FuzzEvent(f *testing.F) {
	store := memstore.New()
	m, err := session.New(store, session.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"kind":"signed in","session":"1a2b-AAAAAAAAAAAAAAAAAAAAAA","user":"YWRh","time":1790000000000}`))
	f.Add([]byte("\x01"))
	f.Add([]byte(`{"kind":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		next, stop := iter.Pull2(m.Events(t.Context()))
		defer stop()
		store.Publish(b)
		if e, err, ok := next(); !ok || err == nil && e.Kind == "" || err != nil && !errors.Is(err, session.ErrGap) {
			t.Errorf("%+v, %v, %v", e, err, ok)
		}
	})
}
