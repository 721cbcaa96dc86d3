package session_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
)

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
