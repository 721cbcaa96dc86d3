package session_test

import (
	"context"
	"encoding/base64"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// TestEachEventIsReportedOnce: each event has the handle, the user and the store's time.
func TestEachEventIsReportedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newSiteWithEvents(t, session.Config{MaxPerUser: 2})
		v := s.known()
		first := v.info().Handle
		l.mustReport(t, "a first write", "created "+first)
		v.do(increment)
		s.visitor().do(readCount)
		l.mustReport(t, "reading, and another write")
		v.do(renew)
		l.mustReport(t, "Renew", "renewed "+first)
		time.Sleep(time.Hour)
		v.do(signIn("ada"))
		second := v.info().Handle
		if l.events[0].Time != time.Now() {
			t.Errorf("event at %v, want %v", l.events[0].Time, time.Now())
		}
		l.mustReport(t, "SignIn", "signed in "+second+" ada "+first)
		v.do(renew)
		l.mustReport(t, "Renew", "renewed "+second+" ada")
		v.do(signIn("bob"))
		third := v.info().Handle
		l.mustReport(t, "SignIn over another user's", "signed in "+third+" bob "+second)

		time.Sleep(time.Second)
		phone, laptop := s.mustSignIn("bob"), s.mustSignIn("ada")
		l.mustReport(t, "two more sign-ins", "signed in "+phone.info().Handle+" bob",
			"signed in "+laptop.info().Handle+" ada")
		time.Sleep(time.Second)
		tablet := s.mustSignIn("bob")
		l.mustReport(t, "a sign-in over the limit", "signed in "+tablet.info().Handle+" bob", "evicted "+third+" bob")

		was := laptop.info().Handle
		laptop.do(func(ses *session.Session) error { signOut(ses); return signOut(ses) })
		l.mustReport(t, "SignOut, twice", "signed out "+was+" ada")
		revoked := phone.info().Handle
		if err := s.m.Revoke(t.Context(), "bob", revoked); err != nil {
			t.Error(err)
		}
		s.m.Revoke(t.Context(), "bob", revoked)
		l.mustReport(t, "Revoke, twice", "revoked "+revoked+" bob")
		last := tablet.info().Handle
		s.m.RevokeUser(t.Context(), "bob")
		s.m.RevokeUser(t.Context(), "bob")
		l.mustReport(t, "RevokeUser, twice", "revoked "+last+" bob")
		s.m.RevokeAll(t.Context())
		l.mustReport(t, "RevokeAll", "revoked")
	})
}

// TestConcurrentEndsReportOneEvent: if a sign-out and another end of the session are concurrent,
// only the one that ended the session is reported.
func TestConcurrentEndsReportOneEvent(t *testing.T) {
	for name, end := range map[string]func(s *site, v *visitor){
		"signed out": func(_ *site, v *visitor) { v.tab().do(signOut) },
		"revoked":    func(s *site, _ *visitor) { s.m.RevokeUser(t.Context(), "ada") },
	} {
		s, l := newSiteWithEvents(t, session.Config{})
		v := s.mustSignIn("ada")
		handle := v.info().Handle
		l.drain()
		v.do(func(ses *session.Session) error {
			end(s, v)
			return signOut(ses)
		})
		l.mustReport(t, name, name+" "+handle+" ada")
	}
	s, l := newSiteWithEvents(t, session.Config{})
	v := s.mustSignIn("ada")
	handle := v.info().Handle
	old := v.tab()
	v.do(renew)
	l.drain()
	old.do(signOut)
	l.mustReport(t, "SignOut with a superseded token", "signed out "+handle+" ada")
}

// TestSignOutEventFromAPlainStore: if the store cannot report whether End ended a session, the
// session that the request has read counts.
func TestSignOutEventFromAPlainStore(t *testing.T) {
	l := &eventLog{}
	s := newSite(t, session.Config{})
	m, err := session.New(struct{ driver.UserStore }{s.store}, patient(session.Config{OnEvent: l.record}))
	if err != nil {
		t.Fatal(err)
	}
	s.m = m
	v := s.mustSignIn("ada")
	handle := v.info().Handle
	l.drain()
	v.do(signOut)
	l.mustReport(t, "SignOut", "signed out "+handle+" ada")
}

// TestRefusedTokensAreReported: a refused token is reported when the handler asks for the session,
// and not before.
func TestRefusedTokensAreReported(t *testing.T) {
	s, l := newSiteWithEvents(t, session.Config{Keys: [][]byte{key(1)}})
	other := newSite(t, session.Config{Keys: [][]byte{key(2)}}).known()
	ended := s.known()
	endedHandle := ended.info().Handle
	was := ended.cookie
	ended.do(signOut)
	v := s.mustSignIn("ada")
	valid := strings.TrimPrefix(v.cookie, "__Host-session=")
	l.drain()
	for _, tt := range []struct {
		name, cookie string
		want         []string
	}{
		{"none", "", nil},
		{"another cookie", "theme=dark", nil},
		{"malformed", "__Host-session=x", []string{"refused malformed"}},
		{"empty", "__Host-session=", []string{"refused malformed"}},
		{"too long", "__Host-session=" + strings.Repeat("A", 4000), []string{"refused malformed"}},
		{"many", "__Host-session=1; __Host-session=2; " + other.cookie + "; __Host-session=3",
			[]string{"refused forged"}},
		{"signed with another key", other.cookie, []string{"refused forged"}},
		{"malformed beside a valid one", "__Host-session=" + valid + "; __Host-session=x",
			[]string{"refused malformed"}},
		{"ended", was, []string{"refused " + endedHandle + " unknown"}},
	} {
		v := &visitor{site: s, cookie: tt.cookie}
		v.tab().handle(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		l.mustReport(t, tt.name+", without From")
		v.tab().do(func(ses *session.Session) error { return ses.Reload(t.Context()) })
		l.mustReport(t, tt.name, tt.want...)
	}
	s, l = newSiteWithEvents(t, session.Config{})
	v = s.mustSignIn("ada")
	handle := v.info().Handle
	l.drain()
	v.withToken(0, true).count()
	l.mustReport(t, "a token that was never issued", "refused "+handle+" unknown")
}

// TestUncertainOutcomesAreNotReported: a change whose outcome is unknown is not reported, nor is
// one that failed.
func TestUncertainOutcomesAreNotReported(t *testing.T) {
	for call, do := range map[string]func(*session.Session) error{"create": increment, "apply": renew,
		"signin": signIn("ada")} {
		for lost, want := range map[bool]int{false: 1, true: 0} {
			s, l := newSiteWithEvents(t, session.Config{})
			v := s.visitor()
			if call == "apply" {
				v = s.known()
				l.drain()
			}
			lose := lost
			s.store.after = func(done string) error {
				if !lose || done != call {
					return nil
				}
				lose = false // a repetition would succeed
				return driver.ErrUnknown
			}
			v.do(do)
			if got := l.drain(); len(got) != want {
				t.Errorf("%s, result lost: %v: events %q, want %d", call, lost, got, want)
			}
		}
	}
	for call, do := range map[string]func(s *site, ses *session.Session) error{
		"end": func(_ *site, ses *session.Session) error { return signOut(ses) },
		"enduser": func(s *site, ses *session.Session) error {
			_, err := s.m.RevokeUser(t.Context(), "ada")
			return err
		},
		"signin": func(_ *site, ses *session.Session) error { return signIn("bob")(ses) },
		"apply":  func(_ *site, ses *session.Session) error { return renew(ses) },
		"load":   func(_ *site, ses *session.Session) error { return ses.Reload(t.Context()) },
	} {
		s, l := newSiteWithEvents(t, session.Config{})
		v := s.mustSignIn("ada")
		l.drain()
		v.do(func(ses *session.Session) error {
			s.store.fail(call, errDown)
			return do(s, ses)
		})
		l.mustReport(t, call+" fails")
	}
}

// TestOnEventMayUseTheSession: OnEvent may call any method of the session. A panic of OnEvent
// reaches the caller.
func TestOnEventMayUseTheSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var s *site
		var kinds []session.EventKind
		s = newSite(t, session.Config{OnEvent: func(ctx context.Context, e session.Event) {
			kinds = append(kinds, e.Kind)
			ses, err := session.From(ctx)
			if err != nil {
				return // an event of RevokeUser below
			}
			ses.Info()
			n.Get(ses)
			if e.Kind == session.EventRenewed {
				if _, err := theme.Update(ctx, ses, func(string) (string, error) { return "dark", nil }); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
			if _, err := s.m.RevokeUser(context.Background(), "eve"); err != nil {
				t.Errorf("RevokeUser: %v", err)
			}
			if e.Kind == session.EventSignedOut {
				panic(http.ErrAbortHandler)
			}
		}})
		v := s.visitor()
		v.do(func(ses *session.Session) error {
			_, err := theme.Update(t.Context(), ses, func(string) (string, error) { return "light", nil })
			return err
		})
		v.mustDo(func(ctx context.Context, ses *session.Session) {
			ses.Renew(ctx)
			mustEqual(t, "the theme", theme.Get(ses), "dark")
			ses.SignIn(ctx, session.Login{User: "ada"})
			defer func() {
				if recover() == nil {
					t.Error("the panic of OnEvent did not reach the caller")
				}
				mustEqual(t, "the user after it", ses.User(), "")
			}()
			ses.SignOut(ctx)
		})
		if want := []session.EventKind{session.EventCreated, session.EventRenewed, session.EventSignedIn,
			session.EventSignedOut}; !slices.Equal(kinds, want) {
			t.Errorf("events %q, want %q", kinds, want)
		}
	})
}

// TestPanicInOnEventLosesNoEvent: later events are still reported. A panic outside a request does
// not end the process.
func TestPanicInOnEventLosesNoEvent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l eventLog
		hook := func(ctx context.Context, e session.Event) {
			l.record(ctx, e)
			panic("in the hook")
		}
		s := newSite(t, session.Config{OnEvent: hook, MaxPerUser: 1, IdleTimeout: time.Hour})
		do := func(what string, f func(), kinds ...session.EventKind) {
			t.Helper()
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: no panic", what)
					}
				}()
				f()
			}()
			var got []session.EventKind
			for _, e := range l.events {
				got = append(got, e.Kind)
			}
			if l.drain(); !slices.Equal(got, kinds) {
				t.Errorf("%s: events %q, want %q", what, got, kinds)
			}
		}
		do("the first sign-in", func() { s.visitor().do(signIn("ada")) }, session.EventSignedIn)
		do("the second sign-in", func() { s.visitor().do(signIn("ada")) }, session.EventSignedIn, session.EventEvicted)
		quiet := *s
		var err error
		if quiet.m, err = session.New(s.store, session.Config{IdleTimeout: time.Hour}); err != nil {
			t.Fatal(err)
		}
		quiet.visitor().do(signIn("ada"))
		do("RevokeUser", func() { s.m.RevokeUser(t.Context(), "ada") }, session.EventRevoked, session.EventRevoked)
		time.Sleep(time.Second)
		last := quiet.visitor()
		last.do(signIn("ada"))
		handle := last.info().Handle
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		l.mustReport(t, "expired", "expired "+handle+" ada")
		if log := s.log.String(); !strings.Contains(log, "OnEvent panicked") ||
			!strings.Contains(log, "events_test.go") {
			t.Errorf("the log: %s", log)
		}
	})
}

// TestFeedReachesAllNodes: every node gets the events about users, in order. Events that an
// anonymous visitor can cause are not published.
func TestFeedReachesAllNodes(t *testing.T) {
	for name, cfg := range map[string]session.Config{"in clear": {}, "sealed": {Keys: [][]byte{key(1)}}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var local eventLog
				first := cfg
				first.OnEvent = local.record
				n := newNodes(t, memstore.New(), first, cfg)
				l := followEvents(t, n[1].m)
				anonymous := n[0].known()
				(&visitor{site: n[0], cookie: "__Host-session=x"}).count()
				anonymous.do(renew)
				before := anonymous.info().Handle
				anonymous.do(signIn("a\xffda"))
				after := anonymous.info().Handle
				anonymous.do(renew)
				other := n[1].mustSignIn("a\xffda")
				handle := other.info().Handle
				n[0].m.RevokeUser(t.Context(), "a\xffda", after)
				anonymous.do(signOut)
				last := n[0].mustSignIn("bob").info().Handle
				time.Sleep(3 * time.Hour)
				stolen := n[0].known()
				stale := stolen.tab()
				stolen.do(renew)
				time.Sleep(2 * time.Minute)
				stale.count()
				n[1].m.RevokeAll(t.Context())
				visitor := n[0].known()
				visitor.do(signOut)
				synctest.Wait()
				l.mustReport(t, "the other node", "signed in "+after+" a\xffda "+before, "renewed "+after+" a\xffda",
					"signed in "+handle+" a\xffda",
					"revoked "+handle+" a\xffda", "signed out "+after+" a\xffda", "signed in "+last+" bob",
					"expired "+last+" bob",
					// Both Managers report the expiry, since they share the store in one process.
					"expired "+last+" bob", "revoked")
				if got := local.drain(); len(got) == 0 || got[0] != "created "+before {
					t.Errorf("on this node: %q", got)
				}
			})
		})
	}
}

// TestFeedIsSealedWithKeys: with keys the store learns no user or handle. A node with another key
// or none gets a gap, as does every node for an event that was made up.
func TestFeedIsSealedWithKeys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &recordingStore{Store: memstore.New()}
		n := newNodes(t, store, session.Config{Keys: [][]byte{key(1)}}, session.Config{Keys: [][]byte{key(2), key(1)}},
			session.Config{Keys: [][]byte{key(2)}}, session.Config{})
		var all []*eventLog
		for _, s := range n {
			all = append(all, followEvents(t, s.m))
		}
		handle := n[0].mustSignIn("ada").info().Handle
		if p := store.published.String(); strings.Contains(p, "ada") ||
			strings.Contains(p, base64.StdEncoding.EncodeToString([]byte("ada"))) ||
			strings.Contains(p, handle) || p == "" {
			t.Errorf("published: %q", p)
		}
		synctest.Wait()
		for i, want := range []string{"signed in " + handle + " ada", "signed in " + handle + " ada", "gap", "gap"} {
			all[i].mustReport(t, "node "+string(rune('0'+i)), want)
		}
		for _, made := range []string{
			"", "x", "\x01", "\x01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "{}", `{"kind":"revoked","time":1}`,
		} {
			store.Publish([]byte(made))
			synctest.Wait()
			all[0].mustReport(t, made, "gap")
		}
		all[3].drain()
	})
}

// TestFeedReportsItsFailure: without a feed, after Close, and when Close ends the feed.
func TestFeedReportsItsFailure(t *testing.T) {
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

// TestSlowFollowerGetsAGap: a gap replaces the lost events, and later events follow.
func TestSlowFollowerGetsAGap(t *testing.T) {
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

// FuzzEvent: every published text is either an event with a kind or a gap.
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
