package session_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

const every = 15 * time.Minute

// rotating is a site whose tokens rotate, with a visitor whose token is old.
func rotating(t *testing.T, cfg session.Config) (*site, *told, *visitor) {
	t.Helper()
	cfg.RotateEvery = every
	s, l := listening(t, cfg)
	v := s.known()
	time.Sleep(every)
	l.take()
	return s, l, v
}

func look(ses *session.Session) error { n.Get(ses); return nil }
func add(ses *session.Session) error  { n.Add(ses, 1); return nil }

// rotates makes a request that must rotate the token.
func (v *visitor) rotates(t *testing.T, f func(*session.Session) error) *visitor {
	t.Helper()
	before := v.also()
	if w := v.do(f); w.Code != 200 || len(cookies(w)) != 1 || v.cookie == before.cookie {
		t.Fatalf("%d, Set-Cookie %q, want another token", w.Code, cookies(w))
	}
	return before
}

// keeps makes a request that must find the session, and leave the token as it is.
func (v *visitor) keeps(t *testing.T, what string) {
	t.Helper()
	found := int64(0)
	w := v.do(func(ses *session.Session) error { found = n.Get(ses); return nil })
	if w.Code != 200 || len(cookies(w)) != 0 || found == 0 {
		t.Errorf("%s: %d, Set-Cookie %q, n = %d, want the session and the same token", what, w.Code, cookies(w), found)
	}
}

// lost makes a request that must find no session, and change nothing.
func (v *visitor) lost(t *testing.T, what string) {
	t.Helper()
	found := int64(0)
	w := v.also().do(func(ses *session.Session) error { found = n.Get(ses); return nil })
	if w.Code != 200 || len(cookies(w)) != 0 || found != 0 {
		t.Errorf("%s: %d, Set-Cookie %q, n = %d, want no session", what, w.Code, cookies(w), found)
	}
}

// named is the handle that the cookie's token names, without a request.
func (v *visitor) named() string {
	_, text, _ := strings.Cut(v.cookie, "=")
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return driver.ID{Bucket: binary.BigEndian.Uint16(b[1:]), Selector: driver.HashOf(b[3:19])}.String()
}

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

// TestRotation: a token that is old is changed with the next request that uses it, once, and the one before lives on until the new one is
// used, and for a grace after that.
func TestRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := listening(t, session.Config{RotateEvery: every})
		v := s.known()
		handle := v.info().Handle
		l.take()
		time.Sleep(every - time.Millisecond)
		v.keeps(t, "too early")
		time.Sleep(time.Millisecond)
		unused := v.handle(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		want(t, "cookies of a request that does not use the session", len(cookies(unused)), 0)

		old := v.rotates(t, look)
		l.want(t, "rotation", "rotated "+handle)
		for range 3 {
			old.keeps(t, "the old token, the new one not yet used")
			time.Sleep(time.Minute)
		}
		v.keeps(t, "the new token")
		want(t, "handle", v.info().Handle, handle)
		time.Sleep(driver.RotationGrace - time.Millisecond)
		old.keeps(t, "the old token in grace")
		l.want(t, "the old token in grace")
		time.Sleep(every)
		v.rotates(t, look)
		l.want(t, "the next rotation", "rotated "+handle)
	})
}

// TestRotationIsOneWrite: it goes with the changes of the request, and by itself if there are none; the session is touched by it.
func TestRotationIsOneWrite(t *testing.T) {
	for name, f := range map[string]func(*session.Session) error{"reader": look, "writer": add} {
		bubble(t, func(t *testing.T) {
			s, _, v := rotating(t, session.Config{})
			before := s.store.loads.Load()
			s.store.applies.Store(0)
			v.rotates(t, f)
			time.Sleep(time.Second)
			want(t, name+": loads", s.store.loads.Load()-before, 1)
			want(t, name+": writes", s.store.applies.Load()+s.store.touches.Load(), 1)
		})
	}
}

// TestRotationAtTheSameTime: of a browser's requests at the same time, on several nodes, one gets the new token, and all are served.
func TestRotationAtTheSameTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := rotating(t, session.Config{})
		other := &site{t: t, store: s.store, log: s.log}
		other.m, _ = session.New(s.store, session.Config{RotateEvery: every, OnEvent: l.hear})
		var mu sync.Mutex
		var got []string
		var wg sync.WaitGroup
		for i := range 20 {
			tab := v.also()
			if tab.site = s; i%2 == 1 {
				tab.site = other
			}
			wg.Go(func() {
				w := tab.do(func(ses *session.Session) error { time.Sleep(time.Second); return add(ses) })
				mu.Lock()
				defer mu.Unlock()
				if want(t, "status", w.Code, 200); len(cookies(w)) > 0 {
					got = append(got, tab.cookie)
				}
			})
		}
		wg.Wait()
		if want(t, "new cookies", len(got), 1); len(l.take()) != 1 {
			t.Error("told of another number of rotations than one")
		}
		v.cookie = got[0]
		want(t, "n", v.count(), 21)
	})
}

// TestRotationWhoseResponseWasLost: the browser goes on with the token it has, and gets another when the lost one would be old. The lost
// one, should it arrive after all, is no thief's.
func TestRotationWhoseResponseWasLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := rotating(t, session.Config{})
		late := v.also()
		late.rotates(t, add)
		for range 14 {
			time.Sleep(time.Minute)
			v.keeps(t, "the visitor's own token")
		}
		time.Sleep(time.Minute)
		old := v.rotates(t, look)
		l.take()
		late.lost(t, "the token that was lost")
		old.keeps(t, "the old token")
		v.keeps(t, "the new token")
		l.want(t, "the token that was lost", "refused "+v.info().Handle+" unknown")
		want(t, "sessions", s.store.Len(), 1)
	})
}

// TestRotationThatFails: it is none of the request.
func TestRotationThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := rotating(t, session.Config{})
		s.store.fail("apply", errDown)
		v.keeps(t, "the store is down")
		if !strings.Contains(s.log.String(), "level=WARN") {
			t.Error("nothing in the log")
		}
		s.store.fail("apply", driver.ErrNotFound)
		v.keeps(t, "the session ended meanwhile")
		s.store.up()
		s.store.after = func(string) error { return driver.ErrUnknown }
		v.keeps(t, "the answer is lost")
		s.store.after = nil
		l.want(t, "rotations that failed")
		for range 2 {
			v.keeps(t, "going on") // in the store another token waits, for ever
			time.Sleep(time.Minute)
		}
		v.do(add)
		time.Sleep(every)
		v.rotates(t, look)
		want(t, "n", v.count(), 2)
	})
	bubble(t, func(t *testing.T) { // with changes the unknown outcome is the request's, and not tried again
		s, _, v := rotating(t, session.Config{})
		s.store.after = func(string) error { return driver.ErrUnknown }
		if w := v.do(add); w.Code != 503 || len(cookies(w)) != 0 {
			t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
		}
		s.store.after = nil
		want(t, "n", v.count(), 2)
	})
	bubble(t, func(t *testing.T) { // nor when another request has rotated, and this one does the rest of its change
		s, _, v := rotating(t, session.Config{})
		other := v.also()
		w := v.do(func(ses *session.Session) error {
			other.rotates(t, look)
			s.store.after = func(string) error { s.store.after = nil; return driver.ErrUnknown }
			return add(ses)
		})
		if w.Code != 503 || len(cookies(w)) != 0 {
			t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
		}
		want(t, "n", v.count(), 2)
	})
}

// TestGenerationOfARenewal: the token says the generation that the record has, also if the one before was in grace.
func TestGenerationOfARenewal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, l, v := rotating(t, session.Config{})
		old := v.rotates(t, look)
		v.keeps(t, "the new token")
		old.do(renew)
		if _, text, _ := strings.Cut(old.cookie, "="); text == "" || text == v.cookie {
			t.Fatal("not renewed")
		}
		time.Sleep(driver.ReplacedFor)
		l.take()
		old.withToken(2, false).keeps(t, "of the second generation")
		want(t, "the token", old.withToken(2, false).cookie, old.cookie)
	})
}

// TestWhatDoesNotRotate: where a new token would not arrive, or is not needed.
func TestWhatDoesNotRotate(t *testing.T) {
	for name, f := range map[string]func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder{
		"a request that was given up": func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			ctx, cancel := context.WithCancel(t.Context())
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			r.Header.Set("Cookie", v.cookie)
			s.m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error {
				cancel()
				return look(ses)
			})).ServeHTTP(w, r)
			return w
		},
		"a connection that was taken over": func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			w := &hijackable{ResponseRecorder: httptest.NewRecorder()}
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", v.cookie)
			s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
				if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
					t.Error(err)
				}
				add(ses)
				return ses.Commit(t.Context())
			})).ServeHTTP(w, r)
			return w.ResponseRecorder
		},
		"a copy while the store is down": func(t *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			store := newCopying(s.store)
			v.site = store.site(t, session.Config{})
			v.keeps(t, "while the store is up")
			v.site = store.site(t, session.Config{RotateEvery: every})
			s.store.fail("load", errDown)
			return v.handle(session.Route{Down: session.ReadOnly}.Handler(session.HandlerFunc(
				func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error {
					if !ses.Degraded() || n.Get(ses) != 1 {
						t.Error("not degraded, or not served")
					}
					return nil
				})))
		},
		"a session that is renewed": func(_ *testing.T, s *site, v *visitor) *httptest.ResponseRecorder {
			w := v.do(renew)
			w.Header().Del("Set-Cookie")
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l, v := rotating(t, session.Config{})
				if w := f(t, s, v); w.Code != 200 || w.Header().Get("Set-Cookie") != "" {
					t.Errorf("%d, Set-Cookie %q", w.Code, w.Header())
				}
				for _, e := range l.take() {
					if strings.HasPrefix(e, "rotated") {
						t.Error("told that it was rotated")
					}
				}
			})
		})
	}
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

// hijackable is a response whose connection can be taken over.
type hijackable struct{ *httptest.ResponseRecorder }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a, b := net.Pipe()
	b.Close()
	return a, bufio.NewReadWriter(bufio.NewReader(a), bufio.NewWriter(a)), nil
}

// TestBearerTokensDoNotRotate: there is no way back for a new one, beside a cookie or not.
func TestBearerTokensDoNotRotate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := listening(t, session.Config{RotateEvery: every, Bearer: true})
		token := s.bearer(t)
		l.take()
		for _, cookie := range []string{"", "__Host-session=" + token} {
			time.Sleep(every)
			v := s.visitor()
			v.cookie, v.header["Authorization"] = cookie, "Bearer "+token
			if w := v.do(add); w.Code != 200 || len(cookies(w)) != 0 {
				t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
			}
		}
		l.want(t, "requests with a bearer token")
	})
}

// stream is a response whose header leaves before f runs. f is given the browser as it is after the header.
func (v *visitor) stream(t *testing.T, f func(ses *session.Session, browser *visitor)) *httptest.ResponseRecorder {
	t.Helper()
	return v.handle(session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		browser := v.also()
		for _, c := range (&http.Response{Header: w.Header()}).Cookies() {
			browser.cookie = c.Name + "=" + c.Value
		}
		f(ses, browser)
		return nil
	}))
}

// TestStreamsAndRotation: a stream does not rotate once its header has left. One that rotated before goes on when its old token is dead: it
// knows the new one. One that was overtaken hears that its session is out of reach, and is no thief.
func TestStreamsAndRotation(t *testing.T) {
	commit := func(ses *session.Session) error { add(ses); return ses.Commit(t.Context()) }
	reload := func(ses *session.Session) error { return ses.Reload(t.Context()) }
	t.Run("begun young", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s, l := listening(t, session.Config{RotateEvery: every})
			v := s.known()
			l.take()
			w := v.stream(t, func(ses *session.Session, _ *visitor) {
				time.Sleep(every)
				if err := errors.Join(commit(ses), reload(ses)); err != nil {
					t.Error(err)
				}
				add(ses)
			})
			want(t, "cookies", len(cookies(w)), 0)
			l.want(t, "a stream")
			want(t, "n", v.count(), 3)
		})
	})
	for name, use := range map[string]func(*session.Session) error{"commits": commit, "reloads": reload} {
		t.Run("rotated, "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				_, l, v := rotating(t, session.Config{})
				handle := v.named()
				w := v.stream(t, func(ses *session.Session, browser *visitor) {
					if err := errors.Join(commit(ses), reload(ses)); err != nil {
						t.Errorf("nobody has used the new token: %v", err)
					}
					browser.keeps(t, "the new token")
					for range 2 {
						time.Sleep(time.Minute)
						if err := use(ses); err != nil {
							t.Errorf("the old token is dead: %v", err)
						}
					}
				})
				want(t, "cookies", len(cookies(w)), 1)
				l.want(t, "a stream", "rotated "+handle)
			})
		})
		t.Run("overtaken, "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l := listening(t, session.Config{RotateEvery: every})
				v := s.known()
				l.take()
				overtaken := v.also()
				w := overtaken.stream(t, func(ses *session.Session, _ *visitor) {
					for range 2 {
						time.Sleep(every)
						v.rotates(t, add)
						v.keeps(t, "the new token")
						time.Sleep(time.Minute)
						if err := use(ses); !errors.Is(err, session.ErrEnded) {
							t.Errorf("%v, want ErrEnded", err)
						}
					}
				})
				want(t, "cookies", len(cookies(w)), 0)
				want(t, "rotations, and nothing else", len(l.take()), 2)
				v.keeps(t, "the visitor")
			})
		})
	}
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

// TestKeepStolen: the theft is told each time, and the session goes on for who has its token.
func TestKeepStolen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := rotating(t, session.Config{KeepStolen: true})
		old := v.rotates(t, look)
		v.keeps(t, "the new token")
		time.Sleep(time.Minute)
		handle := v.info().Handle
		l.take()
		for range 2 {
			old.lost(t, "the old token")
			l.want(t, "theft", "stolen "+handle)
		}
		old.also().do(signOut) // ends nothing
		v.keeps(t, "the new token")
		want(t, "sessions", s.store.Len(), 1)
	})
}

// TestTheftAtTheSameTime: the session ends once, and that is told once.
func TestTheftAtTheSameTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := rotating(t, session.Config{})
		old := v.rotates(t, look)
		handle := v.info().Handle
		time.Sleep(time.Minute)
		l.take()
		old.do(func(ses *session.Session) error { return nil })
		l.want(t, "theft", "stolen "+handle)
		want(t, "sessions", s.store.Len(), 0)
	})
	bubble(t, func(t *testing.T) { // that it cannot be ended is none of the request
		s, l, v := rotating(t, session.Config{})
		old := v.rotates(t, look)
		handle := v.info().Handle
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
			time.Sleep(driver.ReplacedFor - time.Millisecond)
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
		w := here.handle(session.Route{Down: session.ReadOnly}.Handler(session.HandlerFunc(
			func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error { return look(ses) })))
		wantAnswer(t, w, 503)
	})
}

// TestAgeOfAToken: it begins anew with a sign-in and with a renewal.
func TestAgeOfAToken(t *testing.T) {
	for name, f := range map[string]func(*session.Session) error{"sign-in": signIn("ada"), "renewal": renew} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{RotateEvery: every, KeepFields: []string{"n"}})
			v := s.known()
			time.Sleep(every - time.Minute)
			v.do(f)
			time.Sleep(every - time.Millisecond)
			v.keeps(t, name)
			time.Sleep(time.Millisecond)
			v.rotates(t, look)
		})
	}
}

// TestRotatedCookie: it is a cookie like the first one, and no cache keeps the response.
func TestRotatedCookie(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{RotateEvery: every, Persistent: true, Lifetime: time.Hour})
		v := s.known()
		time.Sleep(every)
		w := v.handle(session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
			w.Header().Set("Cache-Control", "public, max-age=60")
			return look(ses)
		}))
		c := w.Result().Cookies()
		if len(c) != 1 || c[0].MaxAge != int((time.Hour-every)/time.Second) || !c[0].HttpOnly || !c[0].Secure {
			t.Errorf("Set-Cookie %q", cookies(w))
		}
		want(t, "Cache-Control", fmt.Sprint(w.Header()["Cache-Control"]), "[no-store]")
	})
}
