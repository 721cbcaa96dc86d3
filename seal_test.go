package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

const (
	secrets session.Map[string]  = "secrets"
	secret  session.Once[string] = "secret"
)

// sealing is a Config that seals with the first of keys.
func sealing(keys ...[]byte) session.Config {
	return session.Config{Seal: true, Keys: keys, UserKey: key(99), KeepFields: []string{"theme", "secrets", "n"}}
}

// with is another Manager on the same store: the same site after a deployment.
func (s *site) with(cfg session.Config) *site {
	s.t.Helper()
	next := *s
	var err error
	cfg.Logger = s.discardLog()
	if next.m, err = session.New(s.store, cfg); err != nil {
		s.t.Fatal(err)
	}
	return &next
}

// at is the same browser at another deployment.
func (v *visitor) at(s *site) *visitor {
	v = v.also()
	v.site = s
	return v
}

// stored returns the visitor's record.
func (v *visitor) stored() (driver.ID, *driver.Record) {
	v.site.t.Helper()
	id, err := driver.ParseID(v.info().Handle)
	if err != nil {
		v.site.t.Fatal(err)
	}
	r, _, err := v.site.store.Store.Load(v.site.t.Context(), id)
	if err != nil {
		v.site.t.Fatal(err)
	}
	return id, r
}

// plant puts values in the store as they are.
func (v *visitor) plant(values ...string) {
	v.site.t.Helper()
	id, r := v.stored()
	c := driver.Change{Verifier: r.Tokens.Current}
	for i := 0; i < len(values); i += 2 {
		c.Ops = append(c.Ops, driver.Op{Kind: driver.Set, Key: driver.Key(values[i]), Value: []byte(values[i+1])})
	}
	if _, err := v.site.store.Store.Apply(v.site.t.Context(), id, &c); err != nil {
		v.site.t.Fatal(err)
	}
}

func (v *visitor) text(k driver.Key) string {
	_, r := v.stored()
	b, _ := r.Fields.Get(k)
	return string(b)
}

// holds checks what a new request of the visitor reads: nothing where want is "".
func (v *visitor) holds(what, inTheme, inEntry string) {
	v.site.t.Helper()
	w := v.also().do(func(ses *session.Session) error {
		entry, _ := secrets.Get(ses, "a")
		all := maps.Collect(secrets.All(ses))
		if got := theme.Get(ses); got != inTheme || entry != inEntry || all["a"] != inEntry {
			v.site.t.Errorf("%s: theme %q, entry %q, all %q; want %q and %q", what, got, entry, all, inTheme, inEntry)
		}
		return nil
	})
	want(v.site.t, what, w.Code, 200)
}

// sealedOnly checks that all values of the visitor's record are sealed but the counter, and say nothing.
func (v *visitor) sealedOnly(plain ...string) {
	v.site.t.Helper()
	_, r := v.stored()
	for _, f := range driver.Encode(r) {
		for _, p := range plain {
			if bytes.Contains(f.Value, []byte(p)) {
				v.site.t.Errorf("%s is %q: it shows %q", f.Key, f.Value, p)
			}
		}
	}
	for _, f := range r.Fields {
		if _, isCount := driver.ParseInt(f.Value); !isCount && !strings.HasPrefix(string(f.Value), "~1") {
			v.site.t.Errorf("%s is in clear: %q", f.Key, f.Value)
		}
	}
}

// TestSealedValues: whatever is done to values, applications see them and the store does not.
func TestSealedValues(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	v := s.known()
	w := v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet")
		secrets.Set(ses, "a", "indigo")
		secret.Put(ses, "orange")
		want(t, "own write", theme.Get(ses), "violet")
		if err := ses.Commit(t.Context()); err != nil {
			return err
		}
		want(t, "after the commit", theme.Get(ses), "violet")
		return nil
	})
	want(t, "status", w.Code, 200)
	v.sealedOnly("violet", "indigo", "orange")
	v.holds("a new request", "violet", "indigo")
	v.do(func(ses *session.Session) error {
		got, ok, err := secret.Take(t.Context(), ses)
		if got != "orange" || !ok || err != nil {
			t.Errorf("Take: %q, %v, %v", got, ok, err)
		}
		if _, ok, err := secret.Take(t.Context(), ses); ok || err != nil {
			t.Errorf("taken twice: %v, %v", ok, err)
		}
		got, err = theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		want(t, "Update", got, "violet-red")
		if err != nil {
			return err
		}
		_, err = secrets.Update(t.Context(), ses, "a", func(s string, ok bool) (string, error) { return s + "-red", nil })
		return err
	})
	v.holds("after Update", "violet-red", "indigo-red")
	v.sealedOnly("violet", "indigo", "red")
	w = v.do(func(ses *session.Session) error { // the view is old: the comparison fails, and has the value that is there
		v.also().do(func(other *session.Session) error { theme.Set(other, "green"); return nil })
		got, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		want(t, "Update of an old view", got, "green-red")
		return err
	})
	want(t, "status", w.Code, 200)
	v.do(renew)
	v.holds("renewed", "green-red", "indigo-red")
	v.do(func(ses *session.Session) error {
		theme.Delete(ses)
		secrets.Clear(ses)
		secrets.Set(ses, "a", "grey")
		n.Add(ses, 1)
		return nil
	})
	v.holds("deleted", "", "grey")
	want(t, "n", v.count(), 2)
	want(t, "n in the store", v.text("n"), "2")
}

// TestSealedWritesAtOnce: of updates in many requests none is lost, and goroutines of a request share the session.
func TestSealedWritesAtOnce(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	v := s.known()
	const many session.Value[int] = "many"
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			v.also().do(func(ses *session.Session) error {
				var within sync.WaitGroup
				for i := range 4 {
					within.Go(func() {
						secrets.Set(ses, fmt.Sprint(i), "x")
						_ = theme.Get(ses)
						for range secrets.All(ses) {
						}
					})
				}
				within.Wait()
				_, err := many.Update(t.Context(), ses, func(n int) (int, error) { return n + 1, nil })
				return err
			})
		})
	}
	all.Wait()
	v.do(func(ses *session.Session) error { want(t, "updates", many.Get(ses), 20); return nil })
	v.sealedOnly()
}

// TestSealedUser: who is signed in, on what and from where, is for the application alone.
func TestSealedUser(t *testing.T) {
	for name, noRecord := range map[string]bool{"": false, "the store has no record at hand": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, sealing(key(1)))
			s.store.noRecord = noRecord
			v := s.known()
			v.do(func(ses *session.Session) error { theme.Set(ses, "violet"); return nil })
			login := session.Login{
				User: "ada-7", Device: "Firefox on Linux", UserAgent: "Mozilla/5.0 <&>", Address: "2001:db8::7", Methods: []string{"pwd"}, Level: 2,
			}
			check := func(what string, i session.Info) {
				t.Helper()
				if i.User != login.User || i.Device != login.Device || i.UserAgent != login.UserAgent || i.Address != login.Address ||
					i.Level != 2 || len(i.Methods) != 1 || i.Authenticated.IsZero() || !i.Authenticated.Equal(i.Created) {
					t.Errorf("%s: %+v", what, i)
				}
			}
			w := v.do(func(ses *session.Session) error {
				secrets.Set(ses, "a", "indigo")
				err := ses.SignIn(t.Context(), login)
				want(t, "User", ses.User(), "ada-7")
				check("Info after SignIn", ses.Info())
				want(t, "carried", theme.Get(ses), "violet")
				got, _ := secrets.Get(ses, "a")
				want(t, "brought", got, "indigo")
				return err
			})
			want(t, "status", w.Code, 200)
			v.holds("signed in", "violet", "indigo")
			want(t, "n", v.count(), 1)
			check("Info", v.info())
			v.sealedOnly("violet", "indigo", "ada-7", "YWRhLTc", "Firefox", "Mozilla", "2001:db8")
			list, err := s.m.Sessions(t.Context(), "ada-7")
			if err != nil || len(list) != 1 {
				t.Fatalf("Sessions: %v, %v", list, err)
			}
			check("Sessions", list[0])
			route := session.Route{User: true, Methods: []string{"pwd"}, MinLevel: 2}
			want(t, "route", v.also().handle(route.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))).Code, 200)

			want(t, "again", v.do(signIn("ada-7")).Code, 200) // all of the same user's
			v.holds("the same user", "violet", "indigo")
			want(t, "another", v.do(signIn("bob")).Code, 200)
			v.holds("another user", "", "")
			want(t, "user", v.who(), "bob")
			v.sealedOnly("bob", "Ym9i")
			v.do(signOut)
			want(t, "user", v.who(), "")
		})
	}
}

// TestSealedSignInRefused: what was not done left nothing behind, and the session goes on.
func TestSealedSignInRefused(t *testing.T) {
	cfg := sealing(key(1))
	cfg.MaxPerUser, cfg.RefuseExtra = 1, true
	s := newSite(t, cfg)
	s.user("ada")
	v := s.known()
	v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet")
		if err := signIn("ada")(ses); !errors.Is(err, session.ErrTooMany) {
			t.Errorf("SignIn: %v", err)
		}
		want(t, "read back", theme.Get(ses), "violet")
		return nil
	})
	v.holds("after a refusal", "violet", "")
	v.sealedOnly("violet")
}

// TestSignInWithinOneRequest: a value keeps its way through each change of @id in one request.
func TestSignInWithinOneRequest(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	v := s.visitor()
	w := v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet") // for a session that is not stored
		if err := signIn("ada")(ses); err != nil {
			return err
		}
		secrets.Set(ses, "a", "indigo")
		if err := signIn("ada")(ses); err != nil { // in place of its own, with what is not committed
			return err
		}
		for range secrets.All(ses) {
			if err := signIn("ada")(ses); err != nil {
				return err
			}
			want(t, "theme", theme.Get(ses), "violet")
		}
		_, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		return err
	})
	want(t, "status", w.Code, 200)
	v.holds("after all", "violet-red", "indigo")
	_, r := v.stored()
	before := r.Secret
	v.do(func(ses *session.Session) error {
		signOut(ses)
		theme.Set(ses, "black") // in a new session
		return nil
	})
	if _, r := v.stored(); r.Secret == before {
		t.Error("two sessions have one @id: values of one open in the other")
	}
	v.holds("after signing out", "black", "")
	v.do(func(ses *session.Session) error {
		v.also().do(signOut)
		theme.Set(ses, "brown")
		if err := ses.Commit(t.Context()); !errors.Is(err, session.ErrEnded) {
			t.Errorf("Commit: %v", err)
		}
		return signIn("ada")(ses)
	})
	v.holds("after an end meanwhile", "brown", "")
	v.sealedOnly("violet", "black", "brown")
}

// TestKeyDrill: keys come and go as the manual says, and nobody is signed out or loses a value; one that goes too early is an error, and
// its return mends all.
func TestKeyDrill(t *testing.T) {
	a, b := key(1), key(2)
	first := newSite(t, sealing(a))
	v := first.user("ada")
	v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet")
		secrets.Set(ses, "a", "indigo")
		return nil
	})
	both := first.with(sealing(b, a))
	v = v.at(both)
	v.holds("a new key", "violet", "indigo")
	want(t, "user", v.who(), "ada")
	old := v.text("theme")
	v.do(func(ses *session.Session) error {
		_, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		return err
	})
	v.holds("written with it", "violet-red", "indigo")
	if now := v.text("theme"); now[:6] == old[:6] || v.text("secrets:a")[:6] != old[:6] {
		t.Errorf("sealed with %q before, and %q after: the first key seals", old[:6], now[:6])
	}

	second := first.with(sealing(b))
	forgotten := v.at(second) // the token is signed by a, which is no key any longer
	want(t, "a token of the old key", forgotten.who(), "")
	v.do(renew) // now it is signed by b
	v = v.at(second)
	w := v.also().do(func(*session.Session) error { t.Error("the handler runs without the values"); return nil })
	wantAnswer(t, w, 500)
	if len(cookies(w)) != 0 {
		t.Errorf("Set-Cookie %q: a missing key signs nobody out", cookies(w))
	}
	if log := first.log.String(); !strings.Contains(log, "secrets:a") && !strings.Contains(log, "@principal") || !strings.Contains(log, "dropped too early") {
		t.Errorf("the log does not say which value: %s", log)
	}
	if _, err := second.m.Sessions(t.Context(), "ada"); !errors.Is(err, session.ErrSealed) {
		t.Errorf("Sessions: %v, want ErrSealed", err)
	}
	v.at(both).holds("the old key is back", "violet-red", "indigo")

	v = v.at(both)
	v.do(signIn("ada")) // seals all anew with b, and signs
	v = v.at(second)
	v.holds("the old key is gone", "violet-red", "indigo")
	want(t, "user", v.who(), "ada")
}

// TestSealOnAndOff: each way, nobody is signed out, and what was stored is read.
func TestSealOnAndOff(t *testing.T) {
	on := sealing(key(1))
	off := on
	off.Seal = false
	s := newSite(t, off)
	v := s.user("ada")
	v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet")
		secrets.Set(ses, "a", "indigo")
		n.Add(ses, 4)
		return nil
	})
	want(t, "in clear", v.text("theme"), `"violet"`)
	v = v.at(s.with(on))
	v.holds("turned on", "violet", "indigo")
	want(t, "user", v.who(), "ada")
	v.do(func(ses *session.Session) error {
		_, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		return err
	})
	v.holds("turned on", "violet-red", "indigo")
	if text := v.text("theme"); !strings.HasPrefix(text, "~1") || v.text("secrets:a") != `"indigo"` {
		t.Errorf("a write left %q: it seals what it writes", text)
	}
	v.do(signIn("ada")) // some of what comes along is sealed, some is not
	v.holds("signed in again", "violet-red", "indigo")
	want(t, "n", v.count(), 4)
	v.do(func(ses *session.Session) error { secrets.Set(ses, "a", "grey"); return nil })
	v.sealedOnly("violet", "indigo", "grey", "ada", "YWRh")
	v = v.at(s)
	v.holds("turned off", "violet-red", "grey")
	want(t, "user", v.who(), "ada")
	v.do(func(ses *session.Session) error { theme.Set(ses, "black"); return nil })
	want(t, "in clear again", v.text("theme"), `"black"`)
	v.do(signIn("ada")) // carries what is sealed without sealing
	v.holds("signed in, turned off", "black", "grey")
	other := v.at(s.with(session.Config{UserKey: key(99)})) // without keys, signed tokens are accepted too
	wantAnswer(t, other.do(func(*session.Session) error { t.Error("no keys: the handler runs"); return nil }), 500)
}

// TestMovedValues: a sealed value opens where it was sealed and nowhere else; the request that reads it fails.
func TestMovedValues(t *testing.T) {
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
	good := v.text("theme")
	for name, bad := range map[string]string{
		"another field": v.text("secrets:a"), "another entry": v.text("secrets:"), "another session": other.text("theme"),
		"cut": good[:len(good)-4], "longer": good + "AAAA", "another tag": flip(good, len(good)-2), "a line break": good[:20] + "\n" + good[20:],
		"padding": good + "=", "mark and key alone": good[:6], "another byte": flip(good, 30),
	} {
		v.plant("theme", bad)
		w := v.also().do(func(ses *session.Session) error {
			if _, ok, err := theme.Lookup(ses); ok || !errors.Is(err, session.ErrSealed) {
				t.Errorf("%s: Lookup %v, %v; want ErrSealed", name, ok, err)
			}
			if _, err := theme.Update(t.Context(), ses, func(string) (string, error) { return "new", nil }); !errors.Is(err, session.ErrSealed) {
				t.Errorf("%s: Update %v, want ErrSealed", name, err)
			}
			return nil // Lookup's error does not stick, and the others read on
		})
		want(t, name, w.Code, 200)
		wantAnswer(t, v.also().do(func(ses *session.Session) error { want(t, name, theme.Get(ses), ""); return nil }), 500)
		want(t, name, v.text("theme"), bad)
	}
	v.plant("theme", good)
	v.plant("secrets:a", v.text("secrets:"), "secret", good)
	wantAnswer(t, v.also().do(func(ses *session.Session) error {
		for k, got := range secrets.All(ses) {
			want(t, "entry "+k, got, map[string]string{"": "empty"}[k])
		}
		return nil
	}), 500)
	v.also().do(func(ses *session.Session) error {
		if _, ok, err := secret.Take(t.Context(), ses); ok || !errors.Is(err, session.ErrSealed) {
			t.Errorf("Take: %v, %v; want ErrSealed", ok, err)
		}
		return nil
	})
	wantAnswer(t, v.also().do(signIn("ada")), 500) // a value that should come along does not open
	v.plant("secrets:a", `"in clear"`)
	v.holds("planted in clear", "violet", "in clear")
	for name, bad := range map[string]string{"another key": "~1AAAA" + good[6:], "another version": "~2" + good[2:], "the mark": "~", "too short": "~1A"} {
		v.plant("secret", bad)
		v.also().do(func(*session.Session) error { t.Errorf("%s: the handler runs", name); return nil })
		_, err := session.From(s.m.Load(t.Context(), http.Header{"Cookie": {v.cookie}}))
		if !errors.Is(err, session.ErrSealed) || !strings.Contains(err.Error(), `"secret"`) || session.Status(err) != 500 {
			t.Errorf("%s: From: %v, want ErrSealed with the field's name", name, err)
		}
		if !strings.Contains(s.log.String(), "session: no key of Config.Keys opens") {
			t.Errorf("%s: nothing in the log", name)
		}
		id, r := v.broken()
		c := driver.Change{Verifier: r.Tokens.Current, Ops: []driver.Op{{Kind: driver.Unset, Key: "secret"}}}
		if _, err := s.store.Store.Apply(t.Context(), id, &c); err != nil {
			t.Fatal(err)
		}
	}
}

// broken returns the visitor's record where no session can be had.
func (v *visitor) broken() (driver.ID, *driver.Record) {
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

// TestForeignPrincipal: a principal from elsewhere is nobody's way in.
func TestForeignPrincipal(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	_, r := s.user("ada").stored()
	s.store.principal = r.Principal
	defer func() { s.store.principal = nil }()
	v := s.visitor()
	v.do(func(ses *session.Session) error { n.Add(ses, 1); return nil })
	if v.cookie == "" {
		t.Fatal("no session")
	}
	wantAnswer(t, v.also().do(func(ses *session.Session) error { t.Errorf("signed in as %q", ses.User()); return nil }), 500)
}

// TestSealedSize: the limit counts what is stored, and the overhead is what the manual says.
func TestSealedSize(t *testing.T) {
	cfg := sealing(key(1))
	s := newSite(t, cfg)
	v := s.known()
	for _, length := range []int{0, 1, 2, 3, 100, 10_000} {
		v.do(func(ses *session.Session) error { theme.Set(ses, strings.Repeat("x", length)); return nil })
		clear, stored := length+2, len(v.text("theme")) // with its quotes
		if most := clear + (clear+2)/3 + 44; stored > most || stored < most-2 {
			t.Errorf("%d bytes take %d, want %d at most, and hardly less", clear, stored, most)
		}
	}
	cfg.MaxSize = 400
	v = newSite(t, cfg).known()
	v.do(func(ses *session.Session) error {
		theme.Set(ses, strings.Repeat("x", 200))
		return nil
	})
	w := v.do(func(ses *session.Session) error {
		secrets.Set(ses, "a", strings.Repeat("x", 50))
		if err := ses.Commit(context.Background()); !errors.Is(err, session.ErrTooLarge) {
			t.Errorf("Commit: %v, want ErrTooLarge: stored it has more bytes", err)
		}
		return nil
	})
	want(t, "status", w.Code, 500)
	v.holds("after", strings.Repeat("x", 200), "")
}

// TestLargestPrincipal: whoever may sign in in clear may sealed.
func TestLargestPrincipal(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	login := session.Login{
		User: strings.Repeat("\xff", driver.MaxUser), Device: strings.Repeat("\x01", driver.MaxDevice),
		UserAgent: strings.Repeat("<", driver.MaxUserAgent), Address: strings.Repeat("\u2028", driver.MaxAddress/3),
	}
	v := s.visitor()
	want(t, "status", v.do(func(ses *session.Session) error { return ses.SignIn(t.Context(), login) }).Code, 200)
	i := v.info()
	if i.User != login.User || i.Device != login.Device || i.UserAgent != login.UserAgent || i.Address != login.Address {
		t.Errorf("%+v", i)
	}
}

// carryTwice asks twice what comes along, as a store may, and hears the same.
type carryTwice struct{ *faulty }

func (c carryTwice) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	twice := *in
	twice.Carry = func(r *driver.Record) (driver.Fields, error) {
		first, err := in.Carry(r)
		if err != nil {
			return nil, err
		}
		second, err := in.Carry(r)
		for i := range first {
			if !bytes.Equal(first[i].Value, second[i].Value) {
				return nil, fmt.Errorf("%s is %q first and %q then", first[i].Key, first[i].Value, second[i].Value)
			}
		}
		return second, err
	}
	return c.faulty.SignIn(ctx, id, &twice)
}

// TestCarriedValuesAreStable: what a store answers about a sign-in is what it stored, however often it asks.
func TestCarriedValuesAreStable(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	var err error
	if s.m, err = session.New(carryTwice{s.store}, sealing(key(1))); err != nil {
		t.Fatal(err)
	}
	v := s.known()
	v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet")
		secrets.Set(ses, "a", "indigo")
		return nil
	})
	want(t, "status", v.do(signIn("ada")).Code, 200)
	v.holds("signed in", "violet", "indigo")
}
