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

// withToken returns a tab whose token has this generation, and a new random verifier on request.
func (v *visitor) withToken(generation uint32, newVerifier bool) *visitor {
	name, text, _ := strings.Cut(v.cookie, "=")
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint32(b[19:], generation)
	if newVerifier {
		rand.Read(b[23:39])
	}
	made := v.tab()
	made.cookie = name + "=" + base64.RawURLEncoding.EncodeToString(b)
	return made
}

// TestStolenTokenEndsTheSession: a superseded token is used after the grace period. The session
// ends for the visitor and for the thief, whichever of them shows the old token.
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
			second.do(increment) // starts a new session
			mustEqual(t, "n", second.count(), 1)
		})
	}
}

// TestTheftEventNamesTheUser: and the user's list no longer has the session.
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
		all, err := listAll(t.Context(), s.m, "ada")
		if err != nil || len(all) != 0 {
			t.Errorf("%d sessions, %v", len(all), err)
		}
	})
}

// TestConcurrentTheftIsReportedOnce: the session ends once.
func TestConcurrentTheftIsReportedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := newSiteWithOldToken(t, session.Config{})
		old := v.mustRotate(t, readCount)
		v.mustHaveSession(t, "the new token")
		handle := v.handleFromCookie()
		time.Sleep(time.Minute)
		l.drain()
		s.store.set(func(call string) error {
			if call == "end" { // another request ends the session first
				s.store.up()
				old.mustHaveNoSession(t, "the faster request")
			}
			return nil
		})
		old.mustHaveNoSession(t, "the old token")
		l.mustReport(t, "theft", "stolen "+handle, "refused "+handle+" unknown")
		mustEqual(t, "sessions", s.store.Len(), 0)
	})
}

// TestTheftIsRetriedWhenTheStoreFails: the request succeeds although the session cannot be ended.
// The next request tries again.
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
			t.Error("the log has no error")
		}
		s.store.up()
		old.mustHaveNoSession(t, "the old token")
		mustEqual(t, "sessions", s.store.Len(), 0)
	})
}

// TestLostAndOvertakenTokensAreNotTheft: a failover can lose a token, and another request can
// overtake one.
func TestLostAndOvertakenTokensAreNotTheft(t *testing.T) {
	for name, f := range map[string]func(t *testing.T, s *site, v *visitor){
		"a token ahead of the record": func(t *testing.T, _ *site, v *visitor) {
			v.withToken(7, true).mustHaveNoSession(t, "a token ahead of the record")
		},
		"another of the record's own generation": func(t *testing.T, _ *site, v *visitor) {
			v.withToken(1, true).mustHaveNoSession(t, "a token of another primary")
		},
		"a request that began in the grace period and calls From later": func(t *testing.T, _ *site, v *visitor) {
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
		"a token in grace that a renewal superseded": func(t *testing.T, _ *site, v *visitor) {
			time.Sleep(rotateEvery)
			old := v.mustRotate(t, readCount)
			v.do(renew)
			time.Sleep(driver.SupersededFor - time.Millisecond)
			old.mustHaveNoSession(t, "the request in flight")
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
						t.Errorf("event %q", e)
					}
				}
				if v.count() != 1 || s.store.Len() != 1 {
					t.Errorf("n = %d, %d sessions", v.count(), s.store.Len())
				}
			})
		})
	}
}

// TestStoreIsAskedBeforeATokenIsRefused: another node has changed the token, and this node has an
// older copy. Before it refuses a token or reports a theft, it reads the store.
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
				store.setStale(true)
				here.site, here.cookie = node, v.cookie
				here.mustHaveSession(t, "the new token")
				if w := here.do(increment); w.Code != 200 || len(cookies(w)) != 0 || v.count() != 2 {
					t.Errorf("a write: %d, Set-Cookie %q", w.Code, cookies(w))
				}
				mustEqual(t, "events", len(l.drain()), 1)
			})
		})
	}
	bubble(t, func(t *testing.T) { // while the store is down, a copy without the token is not used
		s, _, v := newSiteWithOldToken(t, session.Config{})
		store := newCachingStore(s.store)
		here := v.tab()
		here.site = store.newSite(t, session.Config{})
		here.mustHaveSession(t, "before")
		v.do(renew)
		here.cookie = v.cookie
		s.store.fail("load", errDown)
		w := here.serveRoute(session.Route{Down: session.DownReadOnly},
			func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error { return readCount(ses) })
		mustAnswer(t, w, 503)
	})
}

// mustNotBeStolen makes a request whose token opens no session and must not count as stolen.
func (v *visitor) mustNotBeStolen(t *testing.T, l *eventLog, what string) {
	t.Helper()
	sessions := v.site.store.Len()
	l.drain()
	v.mustHaveNoSession(t, what)
	for _, e := range l.drain() {
		if strings.HasPrefix(e, "stolen") {
			t.Errorf("%s: event %q", what, e)
		}
	}
	if got := v.site.store.Len(); got != sessions {
		t.Errorf("%s: %d sessions, want %d", what, got, sessions)
	}
}

// mustStartOver makes a request that must start a new session, for a visitor whose token opens
// none.
func (v *visitor) mustStartOver(t *testing.T) {
	t.Helper()
	if w := v.do(increment); w.Code != 200 || len(cookies(w)) != 1 || v.count() != 1 {
		t.Errorf("%d, Set-Cookie %q, n = %d, want a new session", w.Code, cookies(w), v.count())
	}
}

// TestLostRenewalIsNotTheft: the response with the renewed token is lost. The browser still has the
// old token, which is refused. A minute later the visitor starts a new session.
func TestLostRenewalIsNotTheft(t *testing.T) {
	for name, f := range map[string]func(*session.Session) error{
		"renew":       renew,
		"renew twice": func(ses *session.Session) error { renew(ses); return renew(ses) },
		"renew and then write": func(ses *session.Session) error {
			renew(ses)
			return increment(ses)
		},
		"renew in a slow request": func(ses *session.Session) error {
			renew(ses)
			time.Sleep(5 * time.Minute)
			return ses.Reload(t.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l := newSiteWithEvents(t, session.Config{})
				v := s.known()
				lost := v.tab()
				mustAnswer(t, lost.do(f), 200)
				time.Sleep(driver.SupersededFor)
				for range 2 {
					v.mustNotBeStolen(t, l, "the old token")
				}
				old := v.tab()
				v.mustStartOver(t)

				// The new token arrived: the old token is now stolen.
				lost.mustHaveSession(t, "the new token")
				time.Sleep(time.Second)
				l.drain()
				old.mustHaveNoSession(t, "the old token after the first use of the new one")
				l.mustReport(t, "the old token", "stolen "+lost.handleFromCookie())
			})
		})
	}
}

// TestRenewalOvertakesARotation: a response with a rotated token is slow. Meanwhile the visitor
// renews the token. The slow response then replaces the renewed token in the browser.
func TestRenewalOvertakesARotation(t *testing.T) {
	for _, used := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			_, l, v := newSiteWithOldToken(t, session.Config{})
			old, late := v.tab(), v.tab()
			late.mustRotate(t, readCount)
			v.do(renew)
			if used {
				v.mustHaveSession(t, "the renewed token")
			}
			time.Sleep(driver.SupersededFor)
			late.mustNotBeStolen(t, l, "the rotated token")
			v.mustHaveSession(t, "the renewed token")
			late.mustNotBeStolen(t, l, "the rotated token after the use of the renewed one")
			late.mustStartOver(t)
			time.Sleep(time.Second)
			l.drain()
			old.mustHaveNoSession(t, "the token of both requests")
			l.mustReport(t, "the token of both requests", "stolen "+v.handleFromCookie())
		})
	}
}

// TestVeryLateRotationIsNotTheft: a response with a rotated token is so slow that its token is
// replaced twice before it arrives. The token was never used.
func TestVeryLateRotationIsNotTheft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, l, v := newSiteWithOldToken(t, session.Config{})
		late := v.tab()
		late.mustRotate(t, readCount)
		time.Sleep(rotateEvery)
		v.mustRotate(t, readCount)
		for range 3 {
			v.mustHaveSession(t, "the next token")
			time.Sleep(rotateEvery)
			v.mustRotate(t, readCount)
			late.mustNotBeStolen(t, l, "the late token, while its successor's successor is unused")
		}
		v.mustHaveSession(t, "the last token")
		time.Sleep(driver.RotationGrace)
		late.mustNotBeStolen(t, l, "the late token")
		v.mustHaveSession(t, "the last token")
		late.mustStartOver(t)
	})
}

// TestRecordRemembersOneOvertakenGeneration: a late token counts as stolen only after another
// generation had a token that was never used. docs/rotation.md states this bound.
func TestRecordRemembersOneOvertakenGeneration(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l, v := newSiteWithOldToken(t, session.Config{})
		issued := time.Now()
		late := v.tab()
		late.mustRotate(t, readCount)
		overtake := func() {
			time.Sleep(rotateEvery)
			v.mustRotate(t, readCount)
			late.mustNotBeStolen(t, l, "the late token, before the first use of its successor")
			v.mustHaveSession(t, "the next token")
			time.Sleep(time.Millisecond)
		}
		overtake()
		time.Sleep(rotateEvery)
		v.tab().mustRotate(t, readCount) // the response is lost
		overtake()
		if late := time.Since(issued); late < 3*rotateEvery {
			t.Errorf("%v after the token was issued, want at least %v", late, 3*rotateEvery)
		}
		time.Sleep(driver.RotationGrace)
		l.drain()
		late.mustHaveNoSession(t, "the late token")
		l.mustReport(t, "the late token", "stolen "+v.handleFromCookie())
		mustEqual(t, "sessions", s.store.Len(), 0)
	})
}

// TestThiefCannotHideATokenByOvertaking: a thief makes tokens that are never used, with the stolen
// token, before or after it. The visitor's own token still reveals the theft.
func TestThiefCannotHideATokenByOvertaking(t *testing.T) {
	// overtake rotates v's token twice, so that the first of the two new tokens is never used.
	overtake := func(t *testing.T, v *visitor) {
		time.Sleep(rotateEvery)
		v.tab().mustRotate(t, readCount)
		time.Sleep(rotateEvery)
		v.mustRotate(t, readCount)
		v.mustHaveSession(t, "the thief's token")
	}
	for name, f := range map[string]func(t *testing.T, v *visitor) (thief *visitor){
		"the thief rotates ahead": func(t *testing.T, v *visitor) *visitor {
			thief := v.tab()
			for range 3 {
				overtake(t, thief)
			}
			return thief
		},
		"the visitor's generation has an unused token": func(t *testing.T, v *visitor) *visitor {
			overtake(t, v)
			thief := v.tab()
			time.Sleep(rotateEvery)
			thief.mustRotate(t, readCount)
			thief.mustHaveSession(t, "the thief's token")
			return thief
		},
		"the thief's generation has another one": func(t *testing.T, v *visitor) *visitor {
			overtake(t, v)
			thief := v.tab()
			overtake(t, thief)
			time.Sleep(rotateEvery)
			thief.mustRotate(t, readCount)
			thief.mustHaveSession(t, "the thief's token")
			return thief
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, l, v := newSiteWithOldToken(t, session.Config{})
				thief := f(t, v)
				time.Sleep(time.Minute)
				l.drain()
				v.mustHaveNoSession(t, "the visitor's token")
				l.mustReport(t, "the visitor's token", "stolen "+v.handleFromCookie())
				thief.mustHaveNoSession(t, "the thief's token")
				mustEqual(t, "sessions", s.store.Len(), 0)
			})
		})
	}
}

// generationFromCookie returns the generation in the token of the cookie.
func (v *visitor) generationFromCookie() uint32 {
	_, text, _ := strings.Cut(v.cookie, "=")
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return binary.BigEndian.Uint32(b[19:])
}

// TestRenewedTokenHasTheGenerationOfTheRecord: which generation that is depends on whether another
// request has used a rotated token, after this request read the session.
func TestRenewedTokenHasTheGenerationOfTheRecord(t *testing.T) {
	for _, noRecord := range []bool{false, true} {
		for _, used := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				s, l, v := newSiteWithOldToken(t, session.Config{})
				s.store.noRecord = noRecord
				slow := v.tab()
				v.mustRotate(t, readCount)
				slow.do(func(ses *session.Session) error {
					readCount(ses)
					if used {
						v.mustHaveSession(t, "the rotated token")
						time.Sleep(time.Millisecond) // the first use is written after the response
					}
					return ses.Renew(t.Context())
				})
				want := uint32(1)
				if used {
					want = 2
				}
				mustEqual(t, "generation", slow.generationFromCookie(), want)
				slow.mustHaveSession(t, "the renewed token")
				lost := slow.tab()
				lost.do(renew)
				time.Sleep(driver.SupersededFor)
				slow.mustNotBeStolen(t, l, "the token before a lost one")
			})
		}
	}
}
