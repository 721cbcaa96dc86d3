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

// The fields of the tests about sealing.
const (
	secrets session.Map[string]   = "secrets"
	secret  session.Value[string] = "secret"
)

// sealing returns a Config that seals with the first key.
func sealing(keys ...[]byte) session.Config {
	return session.Config{Seal: true, Keys: keys, UserKey: key(99), KeepFields: []string{"theme", "secrets", "n"}}
}

// mustRecord returns the visitor's record and its id.
func (v *visitor) mustRecord() (driver.ID, *driver.Record) {
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

// storedText returns a value as the store has it.
func (v *visitor) storedText(k driver.Key) string {
	_, r := v.mustRecord()
	b, _ := r.Fields.Get(k)
	return string(b)
}

// mustStore writes keys and values into the record as they are.
func (v *visitor) mustStore(keysAndValues ...string) {
	v.site.t.Helper()
	id, r := v.mustRecord()
	c := driver.Change{Verifier: r.Tokens.Current}
	for i := 0; i < len(keysAndValues); i += 2 {
		c.Ops = append(c.Ops,
			driver.Op{Kind: driver.Set, Key: driver.Key(keysAndValues[i]), Value: []byte(keysAndValues[i+1])})
	}
	if _, err := v.site.store.Store.Apply(v.site.t.Context(), id, &c); err != nil {
		v.site.t.Fatal(err)
	}
}

// mustRead checks theme and the entry "a" of secrets in a new request. An unset field reads as "".
func (v *visitor) mustRead(what, wantTheme, wantEntry string) {
	v.site.t.Helper()
	w := v.tab().do(func(ses *session.Session) error {
		entry, _ := secrets.Get(ses, "a")
		all := maps.Collect(secrets.All(ses))
		if got := theme.Get(ses); got != wantTheme || entry != wantEntry || all["a"] != wantEntry {
			v.site.t.Errorf("%s: theme %q, entry %q, all %q; want %q and %q", what, got, entry, all, wantTheme,
				wantEntry)
		}
		return nil
	})
	mustEqual(v.site.t, what, w.Code, 200)
}

// mustBeSealed checks that all values of the record but counters are sealed, and that none shows a
// plain text.
func (v *visitor) mustBeSealed(plain ...string) {
	v.site.t.Helper()
	_, r := v.mustRecord()
	for _, f := range driver.Encode(r) {
		for _, p := range plain {
			if bytes.Contains(f.Value, []byte(p)) {
				v.site.t.Errorf("%s is %q: it shows %q", f.Key, f.Value, p)
			}
		}
	}
	for _, f := range r.Fields {
		if _, isCount := driver.ParseInt(f.Value); !isCount && !strings.HasPrefix(string(f.Value), "~1") {
			v.site.t.Errorf("%s is not sealed: %q", f.Key, f.Value)
		}
	}
}

// TestStoreSeesOnlySealedValues: the application reads each value whatever was done to it.
func TestStoreSeesOnlySealedValues(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	v := s.known()
	w := v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet")
		secrets.Set(ses, "a", "indigo")
		secret.Set(ses, "orange")
		mustEqual(t, "own write", theme.Get(ses), "violet")
		if err := ses.Commit(t.Context()); err != nil {
			return err
		}
		mustEqual(t, "after the commit", theme.Get(ses), "violet")
		return nil
	})
	mustEqual(t, "status", w.Code, 200)
	v.mustBeSealed("violet", "indigo", "orange")
	v.mustRead("a new request", "violet", "indigo")
	v.do(func(ses *session.Session) error {
		got, ok, err := secret.Take(t.Context(), ses)
		if got != "orange" || !ok || err != nil {
			t.Errorf("Take: %q, %v, %v", got, ok, err)
		}
		if _, ok, err := secret.Take(t.Context(), ses); ok || err != nil {
			t.Errorf("taken twice: %v, %v", ok, err)
		}
		got, err = theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		mustEqual(t, "Update", got, "violet-red")
		if err != nil {
			return err
		}
		_, err = secrets.Update(t.Context(), ses, "a",
			func(s string, ok bool) (string, error) { return s + "-red", nil })
		return err
	})
	v.mustRead("after Update", "violet-red", "indigo-red")
	v.mustBeSealed("violet", "indigo", "red")
	// Another request changes the value after this one has read it.
	w = v.do(func(ses *session.Session) error {
		v.tab().do(func(other *session.Session) error { theme.Set(other, "green"); return nil })
		got, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		mustEqual(t, "Update of an old view", got, "green-red")
		return err
	})
	mustEqual(t, "status", w.Code, 200)
	v.do(renew)
	v.mustRead("renewed", "green-red", "indigo-red")
	v.do(func(ses *session.Session) error {
		theme.Delete(ses)
		secrets.Clear(ses)
		secrets.Set(ses, "a", "grey")
		n.Add(ses, 1)
		return nil
	})
	v.mustRead("deleted", "", "grey")
	mustEqual(t, "n", v.count(), 2)
	mustEqual(t, "n in the store", v.storedText("n"), "2")
}

// TestConcurrentUpdatesOfSealedValues: no update is lost, and the goroutines of a request share the
// session.
func TestConcurrentUpdatesOfSealedValues(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	v := s.known()
	const many session.Value[int] = "many"
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			v.tab().do(func(ses *session.Session) error {
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
	v.do(func(ses *session.Session) error { mustEqual(t, "updates", many.Get(ses), 20); return nil })
	v.mustBeSealed()
}

// TestStoreSeesOnlyASealedUser: the store sees neither the user nor the device and the address.
func TestStoreSeesOnlyASealedUser(t *testing.T) {
	for name, noRecord := range map[string]bool{"": false, "the store has no record at hand": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, sealing(key(1)))
			s.store.noRecord = noRecord
			v := s.known()
			v.do(func(ses *session.Session) error { theme.Set(ses, "violet"); return nil })
			login := session.Login{
				User: "ada-7", Device: "Firefox on Linux", UserAgent: "Mozilla/5.0 <&>", Address: "2001:db8::7",
				Methods: []string{"pwd"}, Level: 2,
			}
			check := func(what string, i session.Info) {
				t.Helper()
				if i.User != login.User || i.Device != login.Device || i.UserAgent != login.UserAgent ||
					i.Address != login.Address ||
					i.Level != 2 || len(i.Methods) != 1 || i.Authenticated.IsZero() ||
					!i.Authenticated.Equal(i.Created) {
					t.Errorf("%s: %+v", what, i)
				}
			}
			w := v.do(func(ses *session.Session) error {
				secrets.Set(ses, "a", "indigo")
				err := ses.SignIn(t.Context(), login)
				mustEqual(t, "User", ses.User(), "ada-7")
				check("Info after SignIn", ses.Info())
				mustEqual(t, "carried value", theme.Get(ses), "violet")
				got, _ := secrets.Get(ses, "a")
				mustEqual(t, "value of this request", got, "indigo")
				return err
			})
			mustEqual(t, "status", w.Code, 200)
			v.mustRead("signed in", "violet", "indigo")
			mustEqual(t, "n", v.count(), 1)
			check("Info", v.info())
			v.mustBeSealed("violet", "indigo", "ada-7", "YWRhLTc", "Firefox", "Mozilla", "2001:db8")
			list, err := listAll(t.Context(), s.m, "ada-7")
			if err != nil || len(list) != 1 {
				t.Fatalf("Sessions: %v, %v", list, err)
			}
			check("Sessions", list[0])
			route := session.Route{SignedIn: true, AuthMethods: []string{"pwd"}, MinLevel: 2}
			mustEqual(t, "route",
				v.tab().handle(route.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))).Code, 200)

			// All fields of the same user are carried over.
			mustEqual(t, "status of a second sign-in", v.do(signIn("ada-7")).Code, 200)
			v.mustRead("the same user", "violet", "indigo")
			mustEqual(t, "status of another user's sign-in", v.do(signIn("bob")).Code, 200)
			v.mustRead("another user", "", "")
			mustEqual(t, "user", v.who(), "bob")
			v.mustBeSealed("bob", "Ym9i")
			v.do(signOut)
			mustEqual(t, "user", v.who(), "")
		})
	}
}

// TestRefusedSignInKeepsSealedValues: a refused sign-in changes nothing, and the session goes on.
func TestRefusedSignInKeepsSealedValues(t *testing.T) {
	cfg := sealing(key(1))
	cfg.MaxPerUser, cfg.RefuseExtra = 1, true
	s := newSite(t, cfg)
	s.mustSignIn("ada")
	v := s.known()
	v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet")
		if err := signIn("ada")(ses); !errors.Is(err, session.ErrTooMany) {
			t.Errorf("SignIn: %v", err)
		}
		mustEqual(t, "read back", theme.Get(ses), "violet")
		return nil
	})
	v.mustRead("after a refusal", "violet", "")
	v.mustBeSealed("violet")
}

// TestSealedValuesSurviveSignInsInOneRequest: a value stays readable through each change of @id.
func TestSealedValuesSurviveSignInsInOneRequest(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	v := s.visitor()
	w := v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet") // the session is not stored
		if err := signIn("ada")(ses); err != nil {
			return err
		}
		secrets.Set(ses, "a", "indigo")
		// Replaces its own session, with changes that are not committed.
		if err := signIn("ada")(ses); err != nil {
			return err
		}
		for range secrets.All(ses) {
			if err := signIn("ada")(ses); err != nil {
				return err
			}
			mustEqual(t, "theme", theme.Get(ses), "violet")
		}
		_, err := theme.Update(t.Context(), ses, func(s string) (string, error) { return s + "-red", nil })
		return err
	})
	mustEqual(t, "status", w.Code, 200)
	v.mustRead("after all", "violet-red", "indigo")
	_, r := v.mustRecord()
	before := r.Secret
	v.do(func(ses *session.Session) error {
		signOut(ses)
		theme.Set(ses, "black") // in a new session
		return nil
	})
	if _, r := v.mustRecord(); r.Secret == before {
		t.Error("the new session has the old @id, so values of one open in the other")
	}
	v.mustRead("after signing out", "black", "")
	v.do(func(ses *session.Session) error {
		v.tab().do(signOut)
		theme.Set(ses, "brown")
		if err := ses.Commit(t.Context()); !errors.Is(err, session.ErrEnded) {
			t.Errorf("Commit: %v", err)
		}
		return signIn("ada")(ses)
	})
	v.mustRead("after an end meanwhile", "brown", "")
	v.mustBeSealed("violet", "black", "brown")
}

// TestPrincipalOfAnotherSessionIsRefused: a copied principal signs nobody in.
func TestPrincipalOfAnotherSessionIsRefused(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	_, r := s.mustSignIn("ada").mustRecord()
	s.store.principal = r.Principal
	defer func() { s.store.principal = nil }()
	v := s.visitor()
	v.do(increment)
	if v.cookie == "" {
		t.Fatal("no session")
	}
	mustAnswer(t, v.tab().do(func(ses *session.Session) error { t.Errorf("signed in as %q", ses.User()); return nil }),
		500)
}

// TestMaxSizeCountsSealedBytes: and sealing adds as many bytes as the manual says.
func TestMaxSizeCountsSealedBytes(t *testing.T) {
	cfg := sealing(key(1))
	s := newSite(t, cfg)
	v := s.known()
	for _, length := range []int{0, 1, 2, 3, 100, 10_000} {
		v.do(func(ses *session.Session) error { theme.Set(ses, strings.Repeat("x", length)); return nil })
		plain, stored := length+2, len(v.storedText("theme")) // with its quotes
		if most := plain + (plain+2)/3 + 44; stored > most || stored < most-2 {
			t.Errorf("%d bytes take %d, want at most %d, and at most 2 less", plain, stored, most)
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
			t.Errorf("Commit: %v, want ErrTooLarge, because the sealed value is larger", err)
		}
		return nil
	})
	mustEqual(t, "status", w.Code, 500)
	v.mustRead("after", strings.Repeat("x", 200), "")
}

// TestLargestPrincipalCanBeSealed: every sign-in that works without Seal works with it.
func TestLargestPrincipalCanBeSealed(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	login := session.Login{
		User: strings.Repeat("\xff", driver.MaxUser), Device: strings.Repeat("\x01", driver.MaxDevice),
		UserAgent: strings.Repeat("<", driver.MaxUserAgent), Address: strings.Repeat("\u2028", driver.MaxAddress/3),
	}
	v := s.visitor()
	mustEqual(t, "status", v.do(func(ses *session.Session) error { return ses.SignIn(t.Context(), login) }).Code, 200)
	i := v.info()
	if i.User != login.User || i.Device != login.Device || i.UserAgent != login.UserAgent ||
		i.Address != login.Address {
		t.Errorf("%+v", i)
	}
}

// carryTwiceStore asks twice which fields are carried over, as a store may. Both answers must be
// equal.
type carryTwiceStore struct{ *faultyStore }

func (c carryTwiceStore) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
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
	return c.faultyStore.SignIn(ctx, id, &twice)
}

// TestCarriedValuesAreStable: Carry returns the same bytes however often a store calls it.
func TestCarriedValuesAreStable(t *testing.T) {
	s := newSite(t, sealing(key(1)))
	var err error
	if s.m, err = session.New(carryTwiceStore{s.store}, patient(sealing(key(1)))); err != nil {
		t.Fatal(err)
	}
	v := s.known()
	v.do(func(ses *session.Session) error {
		theme.Set(ses, "violet")
		secrets.Set(ses, "a", "indigo")
		return nil
	})
	mustEqual(t, "status", v.do(signIn("ada")).Code, 200)
	v.mustRead("signed in", "violet", "indigo")
}

// TestEventsNameTheSealedUser: also for a request with a superseded token.
func TestEventsNameTheSealedUser(t *testing.T) {
	s, l := newSiteWithEvents(t, sealing(key(1)))
	v := s.mustSignIn("ada")
	handle := v.info().Handle
	old := v.tab()
	v.do(renew)
	l.mustReport(t, "SignIn and Renew", "signed in "+handle+" ada", "renewed "+handle+" ada")
	old.do(signOut)
	l.mustReport(t, "SignOut with the superseded token", "signed out "+handle+" ada")
}
