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
	secrets session.Map[string]   = "secrets"
	secret  session.Value[string] = "secret"
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
		secret.Set(ses, "orange")
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
			route := session.Route{SignedIn: true, AuthMethods: []string{"pwd"}, MinLevel: 2}
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
		plain, stored := length+2, len(v.text("theme")) // with its quotes
		if most := plain + (plain+2)/3 + 44; stored > most || stored < most-2 {
			t.Errorf("%d bytes take %d, want %d at most, and hardly less", plain, stored, most)
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

// TestSealedEvents: events name the user, whoever's token a request shows.
func TestSealedEvents(t *testing.T) {
	s, l := listening(t, sealing(key(1)))
	v := s.user("ada")
	handle := v.info().Handle
	old := v.also()
	v.do(renew)
	l.want(t, "SignIn and Renew", "signed in "+handle+" ada", "renewed "+handle+" ada")
	old.do(signOut)
	l.want(t, "SignOut with the token before", "signed out "+handle+" ada")
}
