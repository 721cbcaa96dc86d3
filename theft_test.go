package session_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// withToken is a visitor whose token says it is of another generation, with another verifier if so asked.
func (v *visitor) withToken(generation uint32, another bool) *visitor {
	name, text, _ := strings.Cut(v.cookie, "=")
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint32(b[19:], generation)
	if another {
		rand.Read(b[23:39])
	}
	made := v.also()
	made.cookie = name + "=" + base64.RawURLEncoding.EncodeToString(b)
	return made
}

// TestStolenToken: a token that was rotated out long ago is in two hands. The session ends for both, whichever of them comes with it.
func TestStolenToken(t *testing.T) {
	for _, name := range []string{"the visitor rotates", "the thief rotates"} {
		bubble(t, func(t *testing.T) {
			s, l, first := rotating(t, session.Config{})
			handle := first.named()
			second := first.rotates(t, look)
			first.keeps(t, "the new token")
			time.Sleep(driver.RotationGrace)
			l.take()
			second.lost(t, name+": the old token")
			l.want(t, name, "stolen "+handle)
			first.lost(t, name+": the new token")
			second.lost(t, name+": the old token again")
			l.want(t, name, "refused "+handle+" unknown", "refused "+handle+" unknown")
			want(t, "sessions", s.store.Len(), 0)
			if log := s.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, handle) {
				t.Errorf("the log: %s", log)
			}
			second.do(add) // goes on as anybody
			want(t, "n", second.count(), 1)
		})
	}
}

// TestStolenTokenOfAUser: the event says whose session it was, and the user's list no longer has it.
func TestStolenTokenOfAUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := listening(t, session.Config{RotateEvery: every})
		v := s.user("ada")
		thief, handle := v.also(), v.info().Handle
		for range 3 { // several generations later
			time.Sleep(every)
			v.do(look)
			v.do(look)
		}
		time.Sleep(time.Minute)
		l.take()
		thief.lost(t, "the thief")
		l.want(t, "theft", "stolen "+handle+" ada")
		all, err := s.m.Sessions(t.Context(), "ada")
		if err != nil || len(all) != 0 {
			t.Errorf("%d sessions, %v", len(all), err)
		}
	})
}

// TestTheftAtTheSameTime: the session ends once, and that is told once.
func TestTheftAtTheSameTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := rotating(t, session.Config{})
		old := v.rotates(t, look)
		v.keeps(t, "the new token")
		handle := v.named()
		time.Sleep(time.Minute)
		l.take()
		s.store.set(func(call string) error {
			if call == "end" { // another request is faster
				s.store.up()
				old.lost(t, "the faster one")
			}
			return nil
		})
		old.lost(t, "the old token")
		l.want(t, "theft", "stolen "+handle, "refused "+handle+" unknown")
		want(t, "sessions", s.store.Len(), 0)
	})
}

// TestTheftWhenTheStoreFails: that the session cannot be ended is none of the request, and the next one tries again.
func TestTheftWhenTheStoreFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := rotating(t, session.Config{})
		old := v.rotates(t, look)
		v.keeps(t, "the new token")
		handle := v.named()
		time.Sleep(time.Minute)
		l.take()
		s.store.fail("end", errDown)
		old.lost(t, "the old token")
		l.want(t, "theft", "stolen "+handle)
		if !strings.Contains(s.log.String(), "level=ERROR") {
			t.Error("nothing in the log")
		}
		s.store.up()
		old.lost(t, "the old token")
		want(t, "sessions", s.store.Len(), 0)
	})
}

// TestNoTheft: what a failover lost, and who was overtaken, is not taken for a thief.
func TestNoTheft(t *testing.T) {
	for name, f := range map[string]func(t *testing.T, s *site, v *visitor){
		"a token ahead of the record": func(t *testing.T, _ *site, v *visitor) { v.withToken(7, true).lost(t, "ahead") },
		"another of the record's own generation": func(t *testing.T, _ *site, v *visitor) {
			v.withToken(1, true).lost(t, "of two primaries")
		},
		"a request that began in time, and asks late": func(t *testing.T, _ *site, v *visitor) {
			late := v.also()
			time.Sleep(every)
			w := late.handle(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				for range 2 {
					v.rotates(t, look)
					v.keeps(t, "the new token")
					time.Sleep(every)
				}
				ses, err := session.From(r.Context())
				if err != nil || n.Get(ses) != 0 {
					t.Errorf("From: %v", err)
				}
				n.Add(ses, 1)
			}))
			if wantAnswer(t, w, 409); len(cookies(w)) != 0 {
				t.Errorf("Set-Cookie %q", cookies(w))
			}
		},
		"a token in grace, cut off by a renewal": func(t *testing.T, _ *site, v *visitor) {
			time.Sleep(every)
			old := v.rotates(t, look)
			v.do(renew)
			time.Sleep(driver.SupersededFor - time.Millisecond)
			old.lost(t, "the request under way")
			if w := old.also().do(add); w.Code != 409 || len(cookies(w)) != 0 {
				t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l, v := rotating(t, session.Config{})
				v.rotates(t, look)
				v.keeps(t, "the new token")
				f(t, s, v)
				for _, e := range l.take() {
					if strings.HasPrefix(e, "stolen") {
						t.Error("taken for theft")
					}
				}
				if v.count() != 1 || s.store.Len() != 1 {
					t.Errorf("n = %d, %d sessions", v.count(), s.store.Len())
				}
			})
		})
	}
}

// TestTokenThatACopyDoesNotKnow: another node has changed the token, and this one has not heard of it. The store is asked before anybody is
// called unknown, or a thief.
func TestTokenThatACopyDoesNotKnow(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, v *visitor){
		"renewed": func(_ *testing.T, v *visitor) { v.do(renew) },
		"rotated": func(t *testing.T, v *visitor) { v.rotates(t, look) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l, v := rotating(t, session.Config{})
				store := newCopying(s.store)
				node := store.site(t, session.Config{RotateEvery: every, OnEvent: l.hear})
				here := v.also()
				here.site = store.site(t, session.Config{})
				here.keeps(t, "before")
				change(t, v)
				store.old = true
				here.site, here.cookie = node, v.cookie
				here.keeps(t, "the new token")
				if w := here.do(add); w.Code != 200 || len(cookies(w)) != 0 || v.count() != 2 {
					t.Errorf("a write: %d, Set-Cookie %q", w.Code, cookies(w))
				}
				want(t, "events", len(l.take()), 1)
			})
		})
	}
	bubble(t, func(t *testing.T) { // while the store is down a copy that does not know the token is none
		s, _, v := rotating(t, session.Config{})
		store := newCopying(s.store)
		here := v.also()
		here.site = store.site(t, session.Config{})
		here.keeps(t, "before")
		v.do(renew)
		here.cookie = v.cookie
		s.store.fail("load", errDown)
		w := here.handle(session.Route{Down: session.DownReadOnly}.Handler(session.HandlerFunc(
			func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error { return look(ses) })))
		wantAnswer(t, w, 503)
	})
}

// copying is a store that keeps copies of what it has read, and gives them out when it is told to, however old.
type copying struct {
	*faulty
	mu   sync.Mutex
	kept map[driver.ID]*driver.Record
	old  bool // Load answers with copies
}

func newCopying(f *faulty) *copying { return &copying{faulty: f, kept: map[driver.ID]*driver.Record{}} }

// site is another node, which has the copies.
func (c *copying) site(t *testing.T, cfg session.Config) *site {
	t.Helper()
	s := newSite(t, cfg)
	var err error
	if s.m, err = session.New(c, cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

func (c *copying) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	c.mu.Lock()
	r := c.kept[id]
	old := c.old
	c.mu.Unlock()
	if r != nil && old {
		return r, time.Now(), nil
	}
	return c.LoadFresh(ctx, id)
}

func (c *copying) LoadFresh(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	r, now, err := c.faulty.Load(ctx, id)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.kept[id] = r
	}
	return r, now, err
}

func (c *copying) LoadStale(id driver.ID) (*driver.Record, time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept[id], time.Now(), c.kept[id] != nil
}

// TestSignOutFromACopy: when the store is back by then, what follows goes into a new session.
func TestSignOutFromACopy(t *testing.T) {
	store := newCopying(newFaulty())
	t.Cleanup(func() { store.Close() })
	s := store.site(t, session.Config{})
	v := s.known()
	want(t, "n", v.count(), 1)
	store.down()
	w := v.handle(session.Route{Down: session.DownReadOnly}.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
		want(t, "degraded", ses.Degraded(), true)
		store.up()
		if err := ses.SignOut(r.Context()); err != nil {
			return err
		}
		want(t, "degraded after it", ses.Degraded(), false)
		n.Add(ses, 5)
		return ses.SignIn(r.Context(), session.Login{User: "ada"})
	})))
	if w.Code != 200 || len(cookies(w)) != 1 || v.count() != 5 {
		t.Errorf("%d, Set-Cookie %q, n %d", w.Code, cookies(w), v.count())
	}
}
