package session_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strings"
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
	made := v.tab()
	made.cookie = name + "=" + base64.RawURLEncoding.EncodeToString(b)
	return made
}

// TestStolenTokenEndsTheSession: a token that was rotated out long ago is in two hands. The session ends for both, whichever of them comes with it.
func TestStolenTokenEndsTheSession(t *testing.T) {
	for _, name := range []string{"the visitor rotates", "the thief rotates"} {
		bubble(t, func(t *testing.T) {
			s, l, first := newSiteWithOldToken(t, session.Config{})
			handle := first.handleFromCookie()
			second := first.mustRotate(t, readCount)
			first.mustHaveSession(t, "the new token")
			time.Sleep(driver.RotationGrace)
			l.drain()
			second.mustHaveNoSession(t, name+": the old token")
			l.mustReport(t, name, "stolen "+handle)
			first.mustHaveNoSession(t, name+": the new token")
			second.mustHaveNoSession(t, name+": the old token again")
			l.mustReport(t, name, "refused "+handle+" unknown", "refused "+handle+" unknown")
			mustEqual(t, "sessions", s.store.Len(), 0)
			if log := s.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, handle) {
				t.Errorf("the log: %s", log)
			}
			second.do(increment) // goes on as anybody
			mustEqual(t, "n", second.count(), 1)
		})
	}
}

// TestTheftEventNamesTheUser: the event says whose session it was, and the user's list no longer has it.
func TestTheftEventNamesTheUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newSiteWithEvents(t, session.Config{RotateEvery: rotateEvery})
		v := s.mustSignIn("ada")
		thief, handle := v.tab(), v.info().Handle
		for range 3 { // several generations later
			time.Sleep(rotateEvery)
			v.do(readCount)
			v.do(readCount)
		}
		time.Sleep(time.Minute)
		l.drain()
		thief.mustHaveNoSession(t, "the thief")
		l.mustReport(t, "theft", "stolen "+handle+" ada")
		all, err := s.m.Sessions(t.Context(), "ada")
		if err != nil || len(all) != 0 {
			t.Errorf("%d sessions, %v", len(all), err)
		}
	})
}

// TestConcurrentTheftIsReportedOnce: the session ends once, and that is told once.
func TestConcurrentTheftIsReportedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := newSiteWithOldToken(t, session.Config{})
		old := v.mustRotate(t, readCount)
		v.mustHaveSession(t, "the new token")
		handle := v.handleFromCookie()
		time.Sleep(time.Minute)
		l.drain()
		s.store.set(func(call string) error {
			if call == "end" { // another request is faster
				s.store.up()
				old.mustHaveNoSession(t, "the faster one")
			}
			return nil
		})
		old.mustHaveNoSession(t, "the old token")
		l.mustReport(t, "theft", "stolen "+handle, "refused "+handle+" unknown")
		mustEqual(t, "sessions", s.store.Len(), 0)
	})
}

// TestTheftIsRetriedWhenTheStoreFails: that the session cannot be ended is none of the request, and the next one tries again.
func TestTheftIsRetriedWhenTheStoreFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := newSiteWithOldToken(t, session.Config{})
		old := v.mustRotate(t, readCount)
		v.mustHaveSession(t, "the new token")
		handle := v.handleFromCookie()
		time.Sleep(time.Minute)
		l.drain()
		s.store.fail("end", errDown)
		old.mustHaveNoSession(t, "the old token")
		l.mustReport(t, "theft", "stolen "+handle)
		if !strings.Contains(s.log.String(), "level=ERROR") {
			t.Error("nothing in the log")
		}
		s.store.up()
		old.mustHaveNoSession(t, "the old token")
		mustEqual(t, "sessions", s.store.Len(), 0)
	})
}

// TestLostAndOvertakenTokensAreNotTheft: what a failover lost, and who was overtaken, is not taken for a thief.
func TestLostAndOvertakenTokensAreNotTheft(t *testing.T) {
	for name, f := range map[string]func(t *testing.T, s *site, v *visitor){
		"a token ahead of the record": func(t *testing.T, _ *site, v *visitor) { v.withToken(7, true).mustHaveNoSession(t, "ahead") },
		"another of the record's own generation": func(t *testing.T, _ *site, v *visitor) {
			v.withToken(1, true).mustHaveNoSession(t, "of two primaries")
		},
		"a request that began in time, and asks late": func(t *testing.T, _ *site, v *visitor) {
			late := v.tab()
			time.Sleep(rotateEvery)
			w := late.handle(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				for range 2 {
					v.mustRotate(t, readCount)
					v.mustHaveSession(t, "the new token")
					time.Sleep(rotateEvery)
				}
				ses, err := session.From(r.Context())
				if err != nil || n.Get(ses) != 0 {
					t.Errorf("From: %v", err)
				}
				n.Add(ses, 1)
			}))
			if mustAnswer(t, w, 409); len(cookies(w)) != 0 {
				t.Errorf("Set-Cookie %q", cookies(w))
			}
		},
		"a token in grace, cut off by a renewal": func(t *testing.T, _ *site, v *visitor) {
			time.Sleep(rotateEvery)
			old := v.mustRotate(t, readCount)
			v.do(renew)
			time.Sleep(driver.SupersededFor - time.Millisecond)
			old.mustHaveNoSession(t, "the request under way")
			if w := old.tab().do(increment); w.Code != 409 || len(cookies(w)) != 0 {
				t.Errorf("%d, Set-Cookie %q", w.Code, cookies(w))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l, v := newSiteWithOldToken(t, session.Config{})
				v.mustRotate(t, readCount)
				v.mustHaveSession(t, "the new token")
				f(t, s, v)
				for _, e := range l.drain() {
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

// TestStoreIsAskedBeforeATokenIsRefused: another node has changed the token, and this one has not heard of it. The store is asked before anybody is
// called unknown, or a thief.
func TestStoreIsAskedBeforeATokenIsRefused(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, v *visitor){
		"renewed": func(_ *testing.T, v *visitor) { v.do(renew) },
		"rotated": func(t *testing.T, v *visitor) { v.mustRotate(t, readCount) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l, v := newSiteWithOldToken(t, session.Config{})
				store := newCachingStore(s.store)
				node := store.newSite(t, session.Config{RotateEvery: rotateEvery, OnEvent: l.record})
				here := v.tab()
				here.site = store.newSite(t, session.Config{})
				here.mustHaveSession(t, "before")
				change(t, v)
				store.old = true
				here.site, here.cookie = node, v.cookie
				here.mustHaveSession(t, "the new token")
				if w := here.do(increment); w.Code != 200 || len(cookies(w)) != 0 || v.count() != 2 {
					t.Errorf("a write: %d, Set-Cookie %q", w.Code, cookies(w))
				}
				mustEqual(t, "events", len(l.drain()), 1)
			})
		})
	}
	bubble(t, func(t *testing.T) { // while the store is down a copy that does not know the token is none
		s, _, v := newSiteWithOldToken(t, session.Config{})
		store := newCachingStore(s.store)
		here := v.tab()
		here.site = store.newSite(t, session.Config{})
		here.mustHaveSession(t, "before")
		v.do(renew)
		here.cookie = v.cookie
		s.store.fail("load", errDown)
		w := here.serveRoute(session.Route{Down: session.DownReadOnly}, func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error { return readCount(ses) })
		mustAnswer(t, w, 503)
	})
}
