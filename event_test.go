package session_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// told collects events.
type told struct {
	mu     sync.Mutex
	events []session.Event
}

func (l *told) hear(_ context.Context, e session.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// take returns the events since the last call, as text.
func (l *told) take() (texts []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		texts = append(texts, strings.Join(slices.DeleteFunc([]string{string(e.Kind), e.Handle, e.User, e.Before, e.Reason},
			func(s string) bool { return s == "" }), " "))
	}
	l.events = nil
	return texts
}

// listening is a site whose events are told.
func listening(t *testing.T, cfg session.Config) (*site, *told) {
	l := &told{}
	cfg.OnEvent = l.hear
	return newSite(t, cfg), l
}

func (l *told) want(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := l.take(); !slices.Equal(got, want) {
		t.Errorf("%s: told of %q, want %q", what, got, want)
	}
}

// TestEvents: each happening is told once, with the handle, the user and the store's time.
func TestEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := listening(t, session.Config{MaxPerUser: 2})
		v := s.known()
		first := v.info().Handle
		l.want(t, "a first write", "created "+first)
		v.do(func(ses *session.Session) error { n.Add(ses, 1); return nil })
		s.visitor().do(func(ses *session.Session) error { n.Get(ses); return nil })
		l.want(t, "reading, and another write")
		v.do(renew)
		l.want(t, "Renew", "renewed "+first)
		time.Sleep(time.Hour)
		v.do(signIn("ada"))
		second := v.info().Handle
		if l.events[0].Time != time.Now() {
			t.Errorf("told of %v, want %v", l.events[0].Time, time.Now())
		}
		l.want(t, "SignIn", "signed in "+second+" ada "+first)
		v.do(renew)
		l.want(t, "Renew", "renewed "+second+" ada")
		v.do(signIn("bob"))
		third := v.info().Handle
		l.want(t, "SignIn over another user's", "signed in "+third+" bob "+second)

		time.Sleep(time.Second)
		phone, laptop := s.user("bob"), s.user("ada")
		l.want(t, "two more", "signed in "+phone.info().Handle+" bob", "signed in "+laptop.info().Handle+" ada")
		time.Sleep(time.Second)
		tablet := s.user("bob")
		l.want(t, "over the limit", "signed in "+tablet.info().Handle+" bob", "evicted "+third+" bob")

		was := laptop.info().Handle
		laptop.do(func(ses *session.Session) error { signOut(ses); return signOut(ses) })
		l.want(t, "SignOut, twice", "signed out "+was+" ada")
		gone := phone.info().Handle
		if err := s.m.Revoke(t.Context(), "bob", gone); err != nil {
			t.Error(err)
		}
		s.m.Revoke(t.Context(), "bob", gone)
		l.want(t, "Revoke, twice", "revoked "+gone+" bob")
		last := tablet.info().Handle
		s.m.RevokeUser(t.Context(), "bob")
		s.m.RevokeUser(t.Context(), "bob")
		l.want(t, "RevokeUser, twice", "revoked "+last+" bob")
		s.m.RevokeAll(t.Context())
		l.want(t, "RevokeAll", "revoked")
	})
}

// TestEventOfOneEnd: of two requests that sign out at the same time, or of one and a revocation, one ended the session.
func TestEventOfOneEnd(t *testing.T) {
	for name, end := range map[string]func(s *site, v *visitor){
		"signed out": func(_ *site, v *visitor) { v.also().do(signOut) },
		"revoked":    func(s *site, _ *visitor) { s.m.RevokeUser(t.Context(), "ada") },
	} {
		s, l := listening(t, session.Config{})
		v := s.user("ada")
		handle := v.info().Handle
		l.take()
		v.do(func(ses *session.Session) error {
			end(s, v)
			return signOut(ses)
		})
		l.want(t, name, name+" "+handle+" ada")
	}
	s, l := listening(t, session.Config{})
	v := s.user("ada")
	handle := v.info().Handle
	old := v.also()
	v.do(renew)
	l.take()
	old.do(signOut)
	l.want(t, "with a token that was renewed", "signed out "+handle+" ada")
}

// TestEventOfAStoreThatDoesNotTell: a store that does not know whether an end ended something; what the request has read counts.
func TestEventOfAStoreThatDoesNotTell(t *testing.T) {
	l := &told{}
	s := newSite(t, session.Config{})
	m, err := session.New(struct{ driver.UserStore }{s.store}, session.Config{OnEvent: l.hear})
	if err != nil {
		t.Fatal(err)
	}
	s.m = m
	v := s.user("ada")
	handle := v.info().Handle
	l.take()
	v.do(signOut)
	l.want(t, "SignOut", "signed out "+handle+" ada")
}

// TestEventRefused: tokens that open nothing are told of where somebody asked for the session.
func TestEventRefused(t *testing.T) {
	s, l := listening(t, session.Config{Keys: [][]byte{key(1)}})
	other := newSite(t, session.Config{Keys: [][]byte{key(2)}}).known()
	ended := s.known()
	gone := ended.info().Handle
	was := ended.cookie
	ended.do(signOut)
	v := s.user("ada")
	valid := strings.TrimPrefix(v.cookie, "__Host-session=")
	l.take()
	for _, tt := range []struct {
		name, cookie string
		want         []string
	}{
		{"none", "", nil},
		{"another cookie", "theme=dark", nil},
		{"no token", "__Host-session=x", []string{"refused malformed"}},
		{"empty", "__Host-session=", []string{"refused malformed"}},
		{"too long", "__Host-session=" + strings.Repeat("A", 4000), []string{"refused malformed"}},
		{"many", "__Host-session=1; __Host-session=2; " + other.cookie + "; __Host-session=3", []string{"refused forged"}},
		{"of another key", other.cookie, []string{"refused forged"}},
		{"beside a good one", "__Host-session=" + valid + "; __Host-session=x", []string{"refused malformed"}},
		{"ended", was, []string{"refused " + gone + " unknown"}},
	} {
		v := &visitor{site: s, cookie: tt.cookie}
		v.also().handle(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		l.want(t, tt.name+", nobody asked")
		v.also().do(func(ses *session.Session) error { return ses.Reload(t.Context()) })
		l.want(t, tt.name, tt.want...)
	}
	s, l = listening(t, session.Config{})
	v = s.user("ada")
	named := v.info().Handle
	l.take()
	v.withToken(0, true).count()
	l.want(t, "a token that was never issued", "refused "+named+" unknown")
}

// TestEventOnlyIfCertain: a change whose outcome is unknown has no event.
func TestEventOnlyIfCertain(t *testing.T) {
	lost := func(t *testing.T, call string, times int) func(string) error {
		return func(did string) error {
			if times--; did == call && times >= 0 {
				return driver.ErrUnknown
			}
			return nil
		}
	}
	count := func(ses *session.Session) error { n.Add(ses, 1); return nil }
	for call, do := range map[string]func(*session.Session) error{"create": count, "apply": renew, "signin": signIn("ada")} {
		for times, want := range []int{1, 0} {
			s, l := listening(t, session.Config{})
			v := s.visitor()
			if call == "apply" {
				v = s.known()
				l.take()
			}
			s.store.after = lost(t, call, times)
			v.do(do)
			if got := l.take(); len(got) != want {
				t.Errorf("%s, the answer is lost %d times: told of %q, want %d", call, times, got, want)
			}
		}
	}
	for call, do := range map[string]func(s *site, ses *session.Session) error{
		"end":     func(_ *site, ses *session.Session) error { return signOut(ses) },
		"enduser": func(s *site, ses *session.Session) error { _, err := s.m.RevokeUser(t.Context(), "ada"); return err },
		"signin":  func(_ *site, ses *session.Session) error { return signIn("bob")(ses) },
		"apply":   func(_ *site, ses *session.Session) error { return renew(ses) },
		"load":    func(_ *site, ses *session.Session) error { return ses.Reload(t.Context()) },
	} {
		s, l := listening(t, session.Config{})
		v := s.user("ada")
		l.take()
		v.do(func(ses *session.Session) error {
			s.store.fail(call, errDown)
			return do(s, ses)
		})
		l.want(t, call+" fails")
	}
}

// TestEventHookMayUseTheSession: who is told may call what they like, and a panic is theirs.
func TestEventHookMayUseTheSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var s *site
		var kinds []session.EventKind
		s = newSite(t, session.Config{OnEvent: func(ctx context.Context, e session.Event) {
			kinds = append(kinds, e.Kind)
			ses, err := session.From(ctx)
			if err != nil {
				return // of Manager.RevokeUser below
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
		v.inRequest(func(ctx context.Context, ses *session.Session) {
			ses.Renew(ctx)
			want(t, "the theme", theme.Get(ses), "dark")
			ses.SignIn(ctx, session.Login{User: "ada"})
			defer func() {
				if recover() == nil {
					t.Error("the panic of OnEvent was lost")
				}
				want(t, "the user after it", ses.User(), "")
			}()
			ses.SignOut(ctx)
		})
		if want := []session.EventKind{session.EventCreated, session.EventRenewed, session.EventSignedIn, session.EventSignedOut}; !slices.Equal(kinds, want) {
			t.Errorf("told of %q, want %q", kinds, want)
		}
	})
}

// TestEventHasNoToken: what is told, and logged, opens nothing.
func TestEventHasNoToken(t *testing.T) {
	s, l := listening(t, session.Config{})
	var log logged
	v := s.visitor()
	for _, do := range []func(*session.Session) error{
		func(ses *session.Session) error { n.Add(ses, 1); return nil }, renew, signIn("ada"), signIn("bob"), renew, signOut,
		func(ses *session.Session) error { return nil },
	} {
		before := v.cookie
		v.do(do)
		logger := slog.New(slog.NewTextHandler(&log, nil))
		for _, e := range l.events {
			logger.Info("event", "event", e)
		}
		text := log.String() + fmt.Sprintf("%+v", l.events)
		l.take()
		for _, cookie := range []string{before, v.cookie} {
			if _, token, ok := strings.Cut(cookie, "="); ok && (strings.Contains(text, token) || strings.Contains(text, token[:20])) {
				t.Errorf("token %q is in %q", token, text)
			}
		}
	}
	if got := log.String(); !strings.Contains(got, "event.kind=renewed event.session=") || !strings.Contains(got, "event.user=bob") ||
		strings.Contains(got, "reason") || !strings.Contains(got, "event.time=") {
		t.Errorf("logged %q", got)
	}
}

// TestEventExpired: who was signed in and stayed away is told of, with their name; visitors who were not are not.
func TestEventExpired(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := listening(t, session.Config{IdleTimeout: time.Hour})
		s.known()
		handle := s.user("ada").info().Handle
		s.user("bob").do(signOut)
		l.take()
		end := time.Now().Add(time.Hour)
		time.Sleep(time.Hour - time.Millisecond)
		l.want(t, "a millisecond before the end")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(l.events) != 1 || !l.events[0].Time.Equal(end) {
			t.Errorf("told of %+v, want the end at %v", l.events, end)
		}
		l.want(t, "after it", "expired "+handle+" ada")
	})
}

// recordless is a store that has an expired session's record no longer.
type recordless struct{ *faulty }

func (f recordless) OnExpiry(tell func(driver.Expired)) {
	f.faulty.OnExpiry(func(x driver.Expired) { x.Record = nil; tell(x) })
}

// TestEventExpiredUser: a store without the record names the owner, and the Manager knows whom it has seen.
func TestEventExpiredUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		var told [3]told
		var managers [3]*session.Manager
		for i := range managers {
			var err error
			if managers[i], err = session.New(recordless{s.store}, session.Config{OnEvent: told[i].hear}); err != nil {
				t.Fatal(err)
			}
		}
		s.m = managers[0]
		v := s.user("ada")
		handle := v.info().Handle
		other := v.also()
		other.site = &site{t: t, store: s.store, m: managers[1], log: s.log}
		want(t, "the user elsewhere", other.who(), "ada")
		told[0].take()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		told[0].want(t, "who signed in", "expired "+handle+" ada")
		told[1].want(t, "who saw it used", "expired "+handle+" ada")
		told[2].want(t, "who never heard of the user", "expired "+handle)
	})
}

// TestPanickingHook: what it is told after a panic is told all the same; and one that nobody calls from a request does not end the process.
func TestPanickingHook(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l told
		hook := func(ctx context.Context, e session.Event) {
			l.hear(ctx, e)
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
			if l.take(); !slices.Equal(got, kinds) {
				t.Errorf("%s: told of %q, want %q", what, got, kinds)
			}
		}
		do("the first", func() { s.visitor().do(signIn("ada")) }, session.EventSignedIn)
		do("the second", func() { s.visitor().do(signIn("ada")) }, session.EventSignedIn, session.EventEvicted)
		quiet := *s
		var err error
		if quiet.m, err = session.New(s.store, session.Config{IdleTimeout: time.Hour}); err != nil {
			t.Fatal(err)
		}
		quiet.visitor().do(signIn("ada"))
		do("revoked", func() { s.m.RevokeUser(t.Context(), "ada") }, session.EventRevoked, session.EventRevoked)
		time.Sleep(time.Second)
		last := quiet.visitor()
		last.do(signIn("ada"))
		handle := last.info().Handle
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		l.want(t, "expired", "expired "+handle+" ada")
		if log := s.log.String(); !strings.Contains(log, "OnEvent panicked") || !strings.Contains(log, "event_test.go") {
			t.Errorf("the log: %s", log)
		}
	})
}
