package session_test

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

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
