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

// TestKeyRotationSignsNobodyOut: neither a new first key nor the removal of an old key ends a
// session.
func TestKeyRotationSignsNobodyOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first := newSite(t, session.Config{})
		with := func(keys [][]byte, until time.Time) *site {
			s := newSite(t, session.Config{Keys: keys, UnsignedUntil: until})
			var err error
			if s.m, err = session.New(first.store, patient(session.Config{Keys: keys, UnsignedUntil: until})); err != nil {
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
			t.Error("an unsigned token is refused before UnsignedUntil")
		}
		moved := &visitor{site: one, cookie: unsigned.cookie}
		moved.do(renew)
		if len(moved.cookie) != len(unsigned.cookie)+24 {
			t.Errorf("a renewed token is not signed: %d characters", len(moved.cookie))
		}
		two := with([][]byte{key(2), key(1)}, time.Time{})
		if read(two, moved.cookie) != 1 {
			t.Error("a token of the old key is refused")
		}
		again := &visitor{site: two, cookie: moved.cookie}
		again.do(renew)
		three := with([][]byte{key(2)}, time.Time{})
		if read(three, again.cookie) != 1 || read(three, moved.cookie) != 0 {
			t.Error("want the new key's token accepted, and the old key's refused")
		}
		if read(first, again.cookie) != 1 {
			t.Error("without keys a signed token is refused")
		}
		late := first.known()
		time.Sleep(time.Hour)
		if read(one, late.cookie) != 0 {
			t.Error("an unsigned token is accepted after UnsignedUntil")
		}
	})
}

// TestKeyRotationKeepsSealedValues follows the manual: no value is lost and nobody is signed out. A
// key that is removed too early causes an error. Adding it again repairs everything.
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
	v.mustRead("after adding a key", "violet", "indigo")
	mustEqual(t, "user", v.who(), "ada")
	old := v.storedText("theme")
	v.do(func(ses *session.Session) error {
		_, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		return err
	})
	v.mustRead("written with the new key", "violet-red", "indigo")
	oldNode := first.withConfig(sealing(a, b))
	v.at(oldNode).mustRead("on a node that still seals with the old key", "violet-red", "indigo")
	if now := v.storedText("theme"); now[:6] == old[:6] || v.storedText("secrets:a")[:6] != old[:6] {
		t.Errorf("sealed with %q before, and %q after; the first key must seal", old[:6], now[:6])
	}

	second := first.withConfig(sealing(b))
	forgotten := v.at(second) // the token is signed by a, which was removed
	mustEqual(t, "a token of the old key", forgotten.who(), "")
	v.do(renew) // signs the token with b
	v = v.at(second)
	w := v.tab().do(func(*session.Session) error { t.Error("the handler runs"); return nil })
	mustAnswer(t, w, 500)
	if len(cookies(w)) != 0 {
		t.Errorf("Set-Cookie %q: a missing key must delete no cookie", cookies(w))
	}
	if log := first.log.String(); !strings.Contains(log, "secrets:a") && !strings.Contains(log, "@i") ||
		!strings.Contains(log, "dropped too early") {
		t.Errorf("the log does not name the value: %s", log)
	}
	second.mustListUnreadable(v.at(both).info())
	v.at(both).mustRead("after adding the old key again", "violet-red", "indigo")

	v = v.at(both)
	v.do(signIn("ada")) // seals everything with b
	v = v.at(second)
	v.mustRead("after removing the old key", "violet-red", "indigo")
	mustEqual(t, "user", v.who(), "ada")
}

// TestSealCanBeTurnedOnAndOff: either way nobody is signed out, and stored values stay readable.
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
	mustEqual(t, "stored value", v.storedText("theme"), `"violet"`)
	v = v.at(s.withConfig(on))
	v.mustRead("after turning Seal on", "violet", "indigo")
	mustEqual(t, "user", v.who(), "ada")
	v.do(func(ses *session.Session) error {
		_, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		return err
	})
	v.mustRead("after a write with Seal", "violet-red", "indigo")
	if text := v.storedText("theme"); !strings.HasPrefix(text, "~1") || v.storedText("secrets:a") != `"indigo"` {
		t.Errorf("stored theme %q: a write must seal what it writes, and nothing else", text)
	}
	v.do(signIn("ada")) // carries values of both kinds
	v.mustRead("signed in again", "violet-red", "indigo")
	mustEqual(t, "n", v.count(), 4)
	v.do(func(ses *session.Session) error { secrets.Set(ses, "a", "grey"); return nil })
	v.mustBeSealed("violet", "indigo", "grey", "ada", "YWRh")
	v = v.at(s)
	v.mustRead("after turning Seal off", "violet-red", "grey")
	mustEqual(t, "user", v.who(), "ada")
	v.do(func(ses *session.Session) error { theme.Set(ses, "black"); return nil })
	mustEqual(t, "stored value", v.storedText("theme"), `"black"`)
	v.do(signIn("ada")) // carries a sealed value as it is
	v.mustRead("after a sign-in without Seal", "black", "grey")
	// Without keys a signed token is accepted.
	other := v.at(s.withConfig(session.Config{UserKey: key(99)}))
	mustAnswer(t, other.do(func(*session.Session) error { t.Error("without keys the handler runs"); return nil }), 500)
}

// TestSealedValueOpensOnlyWhereItWasSealed: a request that reads a moved or altered value fails.
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
		"another field": v.storedText("secrets:a"), "another entry": v.storedText("secrets:"),
		"another session": other.storedText("theme"),
		"truncated":       good[:len(good)-4], "longer": good + "AAAA", "another tag": flip(good, len(good)-2),
		"a line break": good[:20] + "\n" + good[20:],
		"padding":      good + "=", "mark and key only": good[:6], "another byte": flip(good, 30),
	} {
		v.mustStore("theme", bad)
		w := v.tab().do(func(ses *session.Session) error {
			if _, ok, err := theme.Lookup(ses); ok || !errors.Is(err, session.ErrSealed) {
				t.Errorf("%s: Lookup %v, %v; want ErrSealed", name, ok, err)
			}
			if _, err := theme.Update(t.Context(), ses,
				func(string) (string, error) { return "new", nil }); !errors.Is(err, session.ErrSealed) {
				t.Errorf("%s: Update %v, want ErrSealed", name, err)
			}
			return nil // an error of Lookup does not fail the commit
		})
		mustEqual(t, name, w.Code, 200)
		mustAnswer(t, v.tab().do(func(ses *session.Session) error {
			mustEqual(t, name, theme.Get(ses), "")
			return nil
		}), 500)
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
	mustAnswer(t, v.tab().do(signIn("ada")), 500) // a value to carry over does not open
	v.mustStore("secrets:a", `"plain"`)
	v.mustRead("planted plain text", "violet", "plain")
	for name, bad := range map[string]string{"another key": "~1AAAA" + good[6:], "another version": "~2" + good[2:],
		"the mark": "~", "too short": "~1A"} {
		v.mustStore("secret", bad)
		v.tab().do(func(*session.Session) error { t.Errorf("%s: the handler runs", name); return nil })
		_, err := session.From(mustLoad(t, s.m, v.cookie))
		if !errors.Is(err, session.ErrSealed) || !strings.Contains(err.Error(), `"secret"`) || session.Status(err) != 500 {
			t.Errorf("%s: From: %v, want ErrSealed with the field's name", name, err)
		}
		if !strings.Contains(s.log.String(), "session: no key of Config.Keys opens") {
			t.Errorf("%s: the log does not have the cause", name)
		}
		id, r := v.mustRecordWithSecret()
		c := driver.Change{Verifier: r.Tokens.Current, Ops: []driver.Op{{Kind: driver.Unset, Key: "secret"}}}
		if _, err := s.store.Store.Apply(t.Context(), id, &c); err != nil {
			t.Fatal(err)
		}
	}
}

// mustRecordWithSecret returns the record that has the field "secret", without loading it through
// the Manager.
func (v *visitor) mustRecordWithSecret() (driver.ID, *driver.Record) {
	for id := range v.site.store.created {
		r, _, err := v.site.store.Store.Load(v.site.t.Context(), id)
		if err == nil {
			if _, ok := r.Fields.Get("secret"); ok {
				return id, r
			}
		}
	}
	v.site.t.Fatal("no session has the field")
	return driver.ID{}, nil
}

// TestSignOutWorksWithoutTheKey: a visitor can leave a session that cannot be read, also with a
// CSRF token from an earlier page.
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
	out := session.Route{Down: session.DownAnonymous}.Handler(session.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
			ran = true
			if !ses.Degraded() || ses.User() != "" || theme.Get(ses) != "" {
				t.Errorf("the session is not degraded, or not empty: user %q, theme %q", ses.User(), theme.Get(ses))
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
		t.Errorf("sign-out and a new session: %d, Set-Cookie %q, n %d", w.Code, cookies(w), v.count())
	}
	if got := l.drain(); len(got) != 2 || got[0] != "signed out "+handle || !strings.HasPrefix(got[1], "signed in ") {
		t.Errorf("events %q", got)
	}
	mustAnswer(t, other.do(func(*session.Session) error { t.Error("the handler runs"); return nil }), 500)
	w = other.serveRoute(session.Route{Down: session.DownAnonymous},
		func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error { n.Add(ses, 1); return nil })
	mustAnswer(t, w, 503)
	if len(cookies(w)) != 0 {
		t.Errorf("Set-Cookie %q, want none", cookies(w))
	}
}

// unsigned returns the same browser at this site with its token without the signature.
func (s *site) unsigned(v *visitor) *visitor {
	v = v.at(s)
	name, text, _ := strings.Cut(v.cookie, "=")
	v.header = map[string]string{}
	v.cookie = name + "=" + text[:52] // without the signature
	return v
}

// mustListUnreadable checks that a session of ada that cannot be read is listed without its sealed
// parts. The session beside it is listed too, and both can be revoked.
func (s *site) mustListUnreadable(sealed session.Info) {
	s.t.Helper()
	other := s.mustSignIn("ada")
	list, err := listAll(s.t.Context(), s.m, "ada")
	if err != nil || len(list) != 2 {
		s.t.Fatalf("Sessions: %+v, %v", list, err)
	}
	at := slices.IndexFunc(list, func(i session.Info) bool { return i.Handle == sealed.Handle })
	if i := list[at]; i.User != "ada" || i.Device != "" || i.Level != sealed.Level ||
		!i.Deadline.Equal(sealed.Deadline) {
		s.t.Errorf("without the key: %+v; with it: %+v", i, sealed)
	}
	if !strings.Contains(s.log.String(), sealed.Handle) {
		s.t.Errorf("the log does not have the handle: %s", s.log)
	}
	for _, handle := range []string{other.info().Handle, s.signInWithOtherKey("ada").Handle} {
		if err := s.m.Revoke(s.t.Context(), "ada", handle); err != nil {
			s.t.Errorf("Revoke: %v", err)
		}
	}
}

// signInWithOtherKey signs a user in with a key that this site does not have.
func (s *site) signInWithOtherKey(user string) session.Info {
	return s.withConfig(sealing(key(77))).mustSignIn(user).info()
}
