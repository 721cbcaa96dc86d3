package session_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// TestKeyRotationSignsNobodyOut: a new key first, and the old one dropped, sign nobody out.
func TestKeyRotationSignsNobodyOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first := newSite(t, session.Config{})
		with := func(keys [][]byte, until time.Time) *site {
			s := newSite(t, session.Config{Keys: keys, UnsignedUntil: until})
			var err error
			if s.m, err = session.New(first.store, session.Config{Keys: keys, UnsignedUntil: until}); err != nil {
				t.Fatal(err)
			}
			return s
		}
		read := func(s *site, cookie string) int64 {
			_, got := s.send(http.Header{"Cookie": {cookie}}, nil)
			return got
		}
		unsigned := first.known()
		one := with([][]byte{key(1)}, time.Now().Add(time.Hour))
		if read(one, unsigned.cookie) != 1 {
			t.Error("the first key signs out those without a signature before UnsignedUntil")
		}
		moved := &visitor{site: one, cookie: unsigned.cookie}
		moved.do(renew)
		if len(moved.cookie) != len(unsigned.cookie)+24 {
			t.Errorf("a renewed token is not signed: %d characters", len(moved.cookie))
		}
		two := with([][]byte{key(2), key(1)}, time.Time{})
		if read(two, moved.cookie) != 1 {
			t.Error("the old key is not accepted")
		}
		again := &visitor{site: two, cookie: moved.cookie}
		again.do(renew)
		three := with([][]byte{key(2)}, time.Time{})
		if read(three, again.cookie) != 1 || read(three, moved.cookie) != 0 {
			t.Error("want the new key's token accepted, and the old key's refused")
		}
		if read(first, again.cookie) != 1 {
			t.Error("dropping all keys signs out")
		}
		late := first.known()
		time.Sleep(time.Hour)
		if read(one, late.cookie) != 0 {
			t.Error("unsigned is accepted after UnsignedUntil")
		}
	})
}

// TestKeyRotationKeepsSealedValues: keys come and go as the manual says, and nobody is signed out or loses a value; one that goes too early is an error, and
// its return mends all.
func TestKeyRotationKeepsSealedValues(t *testing.T) {
	a, b := key(1), key(2)
	first := newSite(t, sealing(a))
	v := first.mustSignIn("ada")
	v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet")
		secrets.Set(ses, "a", "indigo")
		return nil
	})
	both := first.withConfig(sealing(b, a))
	v = v.at(both)
	v.mustRead("a new key", "violet", "indigo")
	mustEqual(t, "user", v.who(), "ada")
	old := v.storedText("theme")
	v.do(func(ses *session.Session) error {
		_, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		return err
	})
	v.mustRead("written with it", "violet-red", "indigo")
	v.at(first.withConfig(sealing(a, b))).mustRead("on a node that seals with the old key yet", "violet-red", "indigo")
	if now := v.storedText("theme"); now[:6] == old[:6] || v.storedText("secrets:a")[:6] != old[:6] {
		t.Errorf("sealed with %q before, and %q after: the first key seals", old[:6], now[:6])
	}

	second := first.withConfig(sealing(b))
	forgotten := v.at(second) // the token is signed by a, which is no key any longer
	mustEqual(t, "a token of the old key", forgotten.who(), "")
	v.do(renew) // now it is signed by b
	v = v.at(second)
	w := v.tab().do(func(*session.Session) error { t.Error("the handler runs without the values"); return nil })
	mustAnswer(t, w, 500)
	if len(cookies(w)) != 0 {
		t.Errorf("Set-Cookie %q: a missing key signs nobody out", cookies(w))
	}
	if log := first.log.String(); !strings.Contains(log, "secrets:a") && !strings.Contains(log, "@principal") || !strings.Contains(log, "dropped too early") {
		t.Errorf("the log does not say which value: %s", log)
	}
	second.mustListUnreadable(v.at(both).info())
	v.at(both).mustRead("the old key is back", "violet-red", "indigo")

	v = v.at(both)
	v.do(signIn("ada")) // seals all anew with b, and signs
	v = v.at(second)
	v.mustRead("the old key is gone", "violet-red", "indigo")
	mustEqual(t, "user", v.who(), "ada")
}

// TestSealCanBeTurnedOnAndOff: each way, nobody is signed out, and what was stored is read.
func TestSealCanBeTurnedOnAndOff(t *testing.T) {
	on := sealing(key(1))
	off := on
	off.Seal = false
	s := newSite(t, off)
	v := s.mustSignIn("ada")
	v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet")
		secrets.Set(ses, "a", "indigo")
		n.Add(ses, 4)
		return nil
	})
	mustEqual(t, "in clear", v.storedText("theme"), `"violet"`)
	v = v.at(s.withConfig(on))
	v.mustRead("turned on", "violet", "indigo")
	mustEqual(t, "user", v.who(), "ada")
	v.do(func(ses *session.Session) error {
		_, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		return err
	})
	v.mustRead("turned on", "violet-red", "indigo")
	if text := v.storedText("theme"); !strings.HasPrefix(text, "~1") || v.storedText("secrets:a") != `"indigo"` {
		t.Errorf("a write left %q: it seals what it writes", text)
	}
	v.do(signIn("ada")) // some of what comes along is sealed, some is not
	v.mustRead("signed in again", "violet-red", "indigo")
	mustEqual(t, "n", v.count(), 4)
	v.do(func(ses *session.Session) error { secrets.Set(ses, "a", "grey"); return nil })
	v.mustBeSealed("violet", "indigo", "grey", "ada", "YWRh")
	v = v.at(s)
	v.mustRead("turned off", "violet-red", "grey")
	mustEqual(t, "user", v.who(), "ada")
	v.do(func(ses *session.Session) error { theme.Set(ses, "black"); return nil })
	mustEqual(t, "in clear again", v.storedText("theme"), `"black"`)
	v.do(signIn("ada")) // carries what is sealed without sealing
	v.mustRead("signed in, turned off", "black", "grey")
	other := v.at(s.withConfig(session.Config{UserKey: key(99)})) // without keys, signed tokens are accepted too
	mustAnswer(t, other.do(func(*session.Session) error { t.Error("no keys: the handler runs"); return nil }), 500)
}

// TestSealedValueOpensOnlyWhereItWasSealed: a sealed value opens where it was sealed and nowhere else; the request that reads it fails.
func TestSealedValueOpensOnlyWhereItWasSealed(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	v, other := s.known(), s.known()
	fill := func(ses *session.Session) error {
		theme.Set(ses, "violet")
		secrets.Set(ses, "a", "indigo")
		secrets.Set(ses, "", "empty")
		return nil
	}
	v.do(fill)
	other.do(fill)
	good := v.storedText("theme")
	for name, bad := range map[string]string{
		"another field": v.storedText("secrets:a"), "another entry": v.storedText("secrets:"), "another session": other.storedText("theme"),
		"cut": good[:len(good)-4], "longer": good + "AAAA", "another tag": flip(good, len(good)-2), "a line break": good[:20] + "\n" + good[20:],
		"padding": good + "=", "mark and key alone": good[:6], "another byte": flip(good, 30),
	} {
		v.mustStore("theme", bad)
		w := v.tab().do(func(ses *session.Session) error {
			if _, ok, err := theme.Lookup(ses); ok || !errors.Is(err, session.ErrSealed) {
				t.Errorf("%s: Lookup %v, %v; want ErrSealed", name, ok, err)
			}
			if _, err := theme.Update(t.Context(), ses, func(string) (string, error) { return "new", nil }); !errors.Is(err, session.ErrSealed) {
				t.Errorf("%s: Update %v, want ErrSealed", name, err)
			}
			return nil // Lookup's error does not stick, and the others read on
		})
		mustEqual(t, name, w.Code, 200)
		mustAnswer(t, v.tab().do(func(ses *session.Session) error { mustEqual(t, name, theme.Get(ses), ""); return nil }), 500)
		mustEqual(t, name, v.storedText("theme"), bad)
	}
	v.mustStore("theme", good)
	v.mustStore("secrets:a", v.storedText("secrets:"), "secret", good)
	mustAnswer(t, v.tab().do(func(ses *session.Session) error {
		for k, got := range secrets.All(ses) {
			mustEqual(t, "entry "+k, got, map[string]string{"": "empty"}[k])
		}
		return nil
	}), 500)
	v.tab().do(func(ses *session.Session) error {
		if _, ok, err := secret.Take(t.Context(), ses); ok || !errors.Is(err, session.ErrSealed) {
			t.Errorf("Take: %v, %v; want ErrSealed", ok, err)
		}
		return nil
	})
	mustAnswer(t, v.tab().do(signIn("ada")), 500) // a value that should come along does not open
	v.mustStore("secrets:a", `"in clear"`)
	v.mustRead("planted in clear", "violet", "in clear")
	for name, bad := range map[string]string{"another key": "~1AAAA" + good[6:], "another version": "~2" + good[2:], "the mark": "~", "too short": "~1A"} {
		v.mustStore("secret", bad)
		v.tab().do(func(*session.Session) error { t.Errorf("%s: the handler runs", name); return nil })
		_, err := session.From(s.m.Load(t.Context(), http.Header{"Cookie": {v.cookie}}))
		if !errors.Is(err, session.ErrSealed) || !strings.Contains(err.Error(), `"secret"`) || session.Status(err) != 500 {
			t.Errorf("%s: From: %v, want ErrSealed with the field's name", name, err)
		}
		if !strings.Contains(s.log.String(), "session: no key of Config.Keys opens") {
			t.Errorf("%s: nothing in the log", name)
		}
		id, r := v.mustRecordWithSecret()
		c := driver.Change{Verifier: r.Tokens.Current, Ops: []driver.Op{{Kind: driver.Unset, Key: "secret"}}}
		if _, err := s.store.Store.Apply(t.Context(), id, &c); err != nil {
			t.Fatal(err)
		}
	}
}

// broken returns the visitor's record where no session can be had.
func (v *visitor) mustRecordWithSecret() (driver.ID, *driver.Record) {
	for id := range v.site.store.seen {
		r, _, err := v.site.store.Store.Load(v.site.t.Context(), id)
		if err == nil {
			if _, ok := r.Fields.Get("secret"); ok {
				return id, r
			}
		}
	}
	v.site.t.Fatal("no such session")
	return driver.ID{}, nil
}

// TestSignOutWorksWithoutTheKey: who has a session that cannot be read can leave it, with the token of a page from before, too.
func TestSignOutWorksWithoutTheKey(t *testing.T) {
	a, b := key(1), key(2)
	cfg := sealing(a, b)
	cfg.CSRF = true
	first, l := newSiteWithEvents(t, cfg)
	v, other := first.mustSignIn("ada"), first.mustSignIn("ada")
	v.do(func(ses *session.Session) error { theme.Set(ses, "violet"); return nil })
	token, handle := v.mustCSRFToken(t), v.info().Handle
	cfg = sealing(b)
	cfg.CSRF, cfg.OnEvent, cfg.UnsignedUntil = true, l.record, time.Now().Add(time.Hour)
	next := first.withConfig(cfg)
	v, other = next.unsigned(v), next.unsigned(other)
	l.drain()

	ran := false
	out := session.Route{Down: session.DownAnonymous}.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
		ran = true
		if !ses.Degraded() || ses.User() != "" || theme.Get(ses) != "" {
			t.Errorf("not degraded, or not empty: %q, %q", ses.User(), theme.Get(ses))
		}
		own, err := ses.CSRFToken(r.Context())
		if err != nil || ses.CheckCSRF(own) != nil {
			t.Errorf("CSRFToken: %v", err)
		}
		if err := ses.SignOut(r.Context()); err != nil {
			return err
		}
		n.Add(ses, 1)
		return ses.SignIn(r.Context(), session.Login{User: "ada"})
	}))
	v.header["X-Csrf-Token"] = "AAAA"
	mustAnswer(t, v.request("POST", next.m.Handler(out)), 403)
	mustEqual(t, "the handler ran without a token", ran, false)
	v.header["X-Csrf-Token"] = token
	w := v.request("POST", next.m.Handler(out))
	if w.Code != 200 || len(cookies(w)) != 1 || v.count() != 1 {
		t.Errorf("signed out, with another session begun: %d, Set-Cookie %q, n %d", w.Code, cookies(w), v.count())
	}
	if got := l.drain(); len(got) != 2 || got[0] != "signed out "+handle || !strings.HasPrefix(got[1], "signed in ") {
		t.Errorf("told of %q", got)
	}
	mustAnswer(t, other.do(func(*session.Session) error { t.Error("the handler runs without the values"); return nil }), 500)
	w = other.serveRoute(session.Route{Down: session.DownAnonymous}, func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error { n.Add(ses, 1); return nil })
	mustAnswer(t, w, 503)
	if len(cookies(w)) != 0 {
		t.Errorf("Set-Cookie %q: nobody signed out", cookies(w))
	}
}

// resigned is the same browser with a token as this site signs it.
func (s *site) unsigned(v *visitor) *visitor {
	v = v.at(s)
	name, text, _ := strings.Cut(v.cookie, "=")
	v.header = map[string]string{}
	v.cookie = name + "=" + text[:52] // what is signed
	return v
}

// listsWithoutTheKey checks that a session of ada's that cannot be read is listed without what is sealed, beside another one, and can be revoked.
func (s *site) mustListUnreadable(sealed session.Info) {
	s.t.Helper()
	other := s.mustSignIn("ada")
	list, err := s.m.Sessions(s.t.Context(), "ada")
	if err != nil || len(list) != 2 {
		s.t.Fatalf("Sessions: %+v, %v", list, err)
	}
	at := slices.IndexFunc(list, func(i session.Info) bool { return i.Handle == sealed.Handle })
	if i := list[at]; i.User != "ada" || i.Device != "" || i.Level != sealed.Level || !i.Deadline.Equal(sealed.Deadline) {
		s.t.Errorf("without the key: %+v; with it: %+v", i, sealed)
	}
	if !strings.Contains(s.log.String(), sealed.Handle) {
		s.t.Errorf("the log does not say which: %s", s.log)
	}
	for _, handle := range []string{other.info().Handle, s.signInWithOtherKey("ada").Handle} {
		if err := s.m.Revoke(s.t.Context(), "ada", handle); err != nil {
			s.t.Errorf("Revoke: %v", err)
		}
	}
}

// unread signs somebody in with a key that this site does not have.
func (s *site) signInWithOtherKey(user string) session.Info {
	return s.withConfig(sealing(key(77))).mustSignIn(user).info()
}
