package session_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// bg is a context that never ends.
var bg = context.Background()

// TestLateReadAfterAnEndIsRefused begins a request, ends its session in another tab, and then reads
// the session. The request is not that of a new visitor: its write fails, and its response has no
// cookie that would replace a newer one.
func TestLateReadAfterAnEndIsRefused(t *testing.T) {
	for name, end := range map[string]func(s *site, other *visitor){
		"signed out": func(_ *site, other *visitor) { other.do(signOut) },
		"user revoked": func(s *site, _ *visitor) {
			if _, err := s.m.RevokeUser(bg, "ada"); err != nil {
				t.Error(err)
			}
		},
		"all revoked": func(s *site, _ *visitor) {
			if err := s.m.RevokeAll(bg); err != nil {
				t.Error(err)
			}
		},
		"over the limit": func(s *site, _ *visitor) { s.mustSignIn("ada") },
	} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{MaxPerUser: 1})
			v := s.mustSignIn("ada")
			slow := v.tab()
			res := slow.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(time.Second)
				end(s, v.tab())
				time.Sleep(time.Second)
				next := s.mustSignIn("ada")
				v.cookie = next.cookie
				time.Sleep(time.Second)
				ses, err := session.From(r.Context())
				if err != nil {
					t.Errorf("%s: From: %v", name, err)
					return
				}
				if ses.Info().User != "" {
					t.Errorf("%s: the session has the user %q", name, ses.Info().User)
				}
				n.Add(ses, 1)
				if err := ses.Commit(bg); !errors.Is(err, session.ErrEnded) {
					t.Errorf("%s: Commit: %v, want ErrEnded", name, err)
				}
			}))
			mustEqual(t, name+": cookies of the late response", len(cookies(res)), 0)
			mustEqual(t, name+": the user of the newer session", v.info().User, "ada")

			// A request that begins after the end is that of an unknown visitor.
			again := v.tab()
			s.m.RevokeUser(bg, "ada")
			time.Sleep(time.Millisecond)
			res = again.do(increment)
			mustEqual(t, name+": status of a write after the end", res.Code, 200)
			if again.cookie == v.cookie || len(cookies(res)) == 0 {
				t.Errorf("%s: a write after the end starts no session: %q", name, cookies(res))
			}
		})
	}
}

// TestRequestRightAfterAnEndIsNew: a request that begins at the very time of the end follows it.
func TestRequestRightAfterAnEndIsNew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.mustSignIn("ada")
		old := v.tab()
		v.do(signOut)
		mustEqual(t, "status", old.do(increment).Code, 200)
		mustEqual(t, "n", old.count(), 1)
	})
}

// lostReplyStore ends a session, loses the reply, and repeats the end, as redisstore does.
type lostReplyStore struct{ *faultyStore }

func (l lostReplyStore) EndAndReport(
	ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt,
) (bool, error) {
	if _, err := l.faultyStore.EndAndReport(ctx, id, owner, attempt); err != nil {
		return false, err
	}
	return l.faultyStore.EndAndReport(ctx, id, owner, attempt)
}

// TestTheftIsReportedWhenAReplyIsLost: the repeated end reports that it ended the session.
func TestTheftIsReportedWhenAReplyIsLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		var events []string
		lost := *s
		var err error
		lost.m, err = session.New(lostReplyStore{s.store}, session.Config{
			Logger:  s.logger(),
			OnEvent: func(_ context.Context, e session.Event) { events = append(events, string(e.Kind)) },
		})
		if err != nil {
			t.Fatal(err)
		}
		v := lost.mustSignIn("ada")
		old := v.tab()
		v.do(renew)
		v.do(readCount) // the new token was used: the old one is stolen once it is forgotten
		time.Sleep(61 * time.Second)
		old.do(readCount)
		if got := strings.Join(events, ", "); !strings.HasSuffix(got, "stolen") {
			t.Errorf("the events are %q, want the theft at the end", got)
		}
	})
}

// TestSignOutOfAReplacedSessionSparesTheNewOne signs in again in another tab, and then signs out
// with the old token. SignOut does not claim that the visitor is signed out. The cookie of the new
// session stays.
func TestSignOutOfAReplacedSessionSparesTheNewOne(t *testing.T) {
	for _, view := range []string{"live", "refused by a commit", "not read yet"} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{ClearSiteData: []string{"storage"}})
			v := s.mustSignIn("ada")
			res := v.tab().handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if view == "not read yet" {
					v.do(signIn("ada"))
				}
				ses, err := session.From(r.Context())
				if err != nil {
					t.Errorf("%s: From: %v", view, err)
					return
				}
				if view != "not read yet" {
					v.do(signIn("ada"))
				}
				if view == "refused by a commit" {
					n.Add(ses, 1)
					if err := ses.Commit(bg); !errors.Is(err, session.ErrEnded) {
						t.Errorf("%s: Commit: %v, want ErrEnded", view, err)
					}
				}
				if err := ses.SignOut(bg); !errors.Is(err, session.ErrEnded) {
					t.Errorf("%s: SignOut: %v, want ErrEnded", view, err)
				}
			}))
			mustEqual(t, view+": cookies", len(cookies(res)), 0)
			mustEqual(t, view+": Clear-Site-Data", res.Header().Get("Clear-Site-Data"), "")
			mustEqual(t, view+": the user of the new session", v.info().User, "ada")
		})
	}
}
