package session_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// shop is a Config with a cart that belongs to the user, and other fields of each kind.
func shop() session.Config {
	return session.Config{UserFields: []session.Field{cart, gifts, n, theme}}
}

// inData calls f with the user data of the visitor, or the session if nobody is signed in.
func (v *visitor) inData(f func(ctx context.Context, s, data *session.Session)) {
	v.site.t.Helper()
	v.mustDo(func(ctx context.Context, s *session.Session) {
		data, err := s.UserData(ctx)
		if err != nil {
			v.site.t.Errorf("UserData: %v", err)
			return
		}
		f(ctx, s, data)
	})
}

// add adds a fruit to the cart of the visitor.
func (v *visitor) add(fruit string, count int64) {
	v.site.t.Helper()
	v.inData(func(_ context.Context, _, data *session.Session) { cart.Add(data, fruit, count) })
}

// mustHave checks the cart of the visitor.
func (v *visitor) mustHave(want string) {
	v.site.t.Helper()
	v.inData(func(_ context.Context, _, data *session.Session) {
		mustEqual(v.site.t, "the cart", contents(data), want)
	})
}

// contents returns the cart as text.
func contents(s *session.Session) string {
	var list []string
	for fruit, count := range cart.All(s) {
		list = append(list, fmt.Sprint(fruit, "=", count))
	}
	return strings.Join(list, " ")
}

// TestCartFollowsItsUser: an anonymous cart joins the user's at sign-in, and both devices have it.
func TestCartFollowsItsUser(t *testing.T) {
	s := newSite(t, shop())
	phone, laptop := s.visitor(), s.visitor()
	phone.add("apple", 2)
	phone.mustHave("apple=2")
	phone.do(signIn("ada"))
	phone.mustHave("apple=2")
	laptop.add("apple", 1)
	laptop.add("pear", 1)
	laptop.do(signIn("ada"))
	laptop.mustHave("apple=3 pear=1")
	phone.mustHave("apple=3 pear=1")
	phone.add("pear", 5)
	laptop.mustHave("apple=3 pear=6")
	laptop.do(signOut)
	laptop.mustHave("")
	laptop.do(signIn("ada"))
	laptop.mustHave("apple=3 pear=6")
}

// TestEachKindOfFieldJoins: counts are added, and other values of the session replace the user's.
// A field that does not belong to the user is not kept.
func TestEachKindOfFieldJoins(t *testing.T) {
	s := newSite(t, shop())
	fill := func(v *visitor, x string, count int64) {
		v.inData(func(_ context.Context, _, data *session.Session) {
			n.Add(data, count)
			cart.Add(data, "both", count)
			cart.Add(data, x, count)
			gifts.Set(data, "both", gift{For: x})
			gifts.Set(data, x, gift{For: x})
			theme.Set(data, x)
			notice.Set(data, x)
		})
	}
	known, unknown := s.mustSignIn("ada"), s.visitor()
	fill(known, "known", 10)
	fill(unknown, "unknown", 1)
	unknown.do(signIn("ada"))
	unknown.inData(func(_ context.Context, s, data *session.Session) {
		mustEqual(t, "n", n.Get(data), 11)
		mustEqual(t, "the cart", contents(data), "both=11 known=10 unknown=1")
		for key, want := range map[string]string{"both": "unknown", "known": "known", "unknown": "unknown"} {
			got, _ := gifts.Get(data, key)
			mustEqual(t, "the gift "+key, got.For, want)
		}
		mustEqual(t, "the theme", theme.Get(data), "unknown")
		mustEqual(t, "the notice of the user", notice.Get(data), "known")
		mustEqual(t, "the notice of the session", notice.Get(s), "")
		mustEqual(t, "what is left in the session", contents(s), "")
	})
}

// TestUserDataIsNoSession: it says whose data it is, and refuses what is for sessions alone.
func TestUserDataIsNoSession(t *testing.T) {
	s := newSite(t, shop())
	v := s.mustSignIn("ada")
	v.add("apple", 1)
	v.inData(func(ctx context.Context, ses, data *session.Session) {
		mustEqual(t, "the user", data.User(), "ada")
		mustEqual(t, "the user in Info", data.Info().User, "ada")
		if again, err := ses.UserData(ctx); again != data || err != nil {
			t.Errorf("a second call: %p, %v, want %p", again, err, data)
		}
		if again, err := data.UserData(ctx); again != data || err != nil {
			t.Errorf("UserData of user data: %p, %v, want %p", again, err, data)
		}
		handle := data.Info().Handle
		if err := s.m.Revoke(ctx, "ada", handle); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Revoke(%q): %v", handle, err)
		}
		_, bearer := data.BearerToken(ctx)
		_, token := data.CSRFToken(ctx)
		for name, err := range map[string]error{
			"SignIn": data.SignIn(ctx, session.Login{User: "bob"}), "SignOut": data.SignOut(ctx), "Renew": data.Renew(ctx),
			"Adopt": data.Adopt(ctx, key(1), nil), "Resume": data.Resume(ctx, key(1), handle), "BearerToken": bearer,
			"CSRFToken": token, "CheckCSRF": data.CheckCSRF("x"),
		} {
			if !errors.Is(err, session.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", name, err)
			}
		}
		list, err := listAll(ctx, s.m, "ada")
		if len(list) != 1 || err != nil {
			t.Errorf("%d sessions, %v, want 1", len(list), err)
		}
	})
	mustEqual(t, "sessions in the store", s.store.Len(), 1)
	if c, err := s.store.Count(t.Context(), 0); c.SignedIn != 1 || c.Anonymous != 0 || err != nil {
		t.Errorf("%+v, %v, want one signed-in session", c, err)
	}
}

// TestRevocationKeepsUserData: revoking one session, all of the user or all of everybody keeps it.
// DeleteUser empties it.
func TestRevocationKeepsUserData(t *testing.T) {
	s := newSite(t, shop())
	again := func() *visitor {
		time.Sleep(2 * time.Millisecond) // a sign-in in the millisecond of a revocation is refused
		return s.mustSignIn("ada")
	}
	v := again()
	v.add("apple", 1)
	if _, err := s.m.RevokeUser(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	v = again()
	v.mustHave("apple=1")
	if err := s.m.RevokeAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	v = again()
	v.mustHave("apple=1")
	if count, err := s.m.DeleteUser(t.Context(), "ada"); count != 1 || err != nil {
		t.Errorf("DeleteUser: %d, %v", count, err)
	}
	mustEqual(t, "the user after DeleteUser", v.who(), "")
	again().mustHave("")
	if count, err := s.m.DeleteUser(t.Context(), "nobody"); count != 0 || err != nil {
		t.Errorf("DeleteUser of a user without anything: %d, %v", count, err)
	}
}

// TestEndedSessionDoesNotWriteUserData: neither a slow request nor a stream of a revoked session
// changes the data, whatever call commits.
func TestEndedSessionDoesNotWriteUserData(t *testing.T) {
	for name, commit := range map[string]func(ctx context.Context, data *session.Session) error{
		"middleware": func(_ context.Context, data *session.Session) error { cart.Add(data, "apple", 1); return nil },
		"Commit": func(ctx context.Context, data *session.Session) error {
			cart.Add(data, "apple", 1)
			return data.Commit(ctx)
		},
		"Update": func(ctx context.Context, data *session.Session) error {
			_, err := theme.Update(ctx, data, func(string) (string, error) { return "dark", nil })
			return err
		},
		"Take": func(ctx context.Context, data *session.Session) error {
			_, _, err := notice.Take(ctx, data)
			return err
		},
	} {
		s := newSite(t, shop())
		v := s.mustSignIn("ada")
		v.inData(func(_ context.Context, _, data *session.Session) { notice.Set(data, "kept") })
		w := v.tab().serve(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
			data, err := ses.UserData(r.Context())
			if err != nil {
				return err
			}
			if _, err := s.m.RevokeUser(t.Context(), "ada"); err != nil {
				t.Fatal(err)
			}
			return commit(r.Context(), data)
		})
		mustAnswer(t, w, 409)
		data, err := s.m.UserData(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		if contents(data) != "" || theme.Get(data) != "" || notice.Get(data) != "kept" {
			t.Errorf("%s: the request of a revoked session changed the data", name)
		}
	}
}

// TestUserDataIsCommittedWithTheRequest: after the session, and discarded with it.
func TestUserDataIsCommittedWithTheRequest(t *testing.T) {
	s := newSite(t, shop())
	v := s.mustSignIn("ada")
	v.add("apple", 1)
	w := v.serve(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
		data, _ := ses.UserData(r.Context())
		cart.Add(data, "apple", 10)
		return errors.New("the handler fails")
	})
	mustAnswer(t, w, 500)
	v.mustHave("apple=1")
	func() {
		defer func() { _ = recover() }()
		v.inData(func(_ context.Context, _, data *session.Session) {
			cart.Add(data, "apple", 10)
			panic("the handler panics")
		})
	}()
	v.mustHave("apple=1")
	v.inData(func(_ context.Context, ses, data *session.Session) {
		cart.Add(data, "apple", 10)
		ses.Discard()
		cart.Add(data, "pear", 1)
	})
	v.mustHave("apple=1 pear=1")
	// If the session's change is refused, the data is unchanged.
	w = v.do(func(ses *session.Session) error {
		data, err := ses.UserData(t.Context())
		cart.Add(data, "apple", 10)
		n.Add(ses, math.MaxInt64)
		n.Add(ses, math.MaxInt64)
		return err
	})
	mustAnswer(t, w, 500)
	v.mustHave("apple=1 pear=1")
	// A handler that has got the error may answer it itself.
	w = v.serve(func(out http.ResponseWriter, r *http.Request, ses *session.Session) error {
		data, _ := ses.UserData(r.Context())
		s.store.fail("apply", errDown)
		cart.Add(data, "apple", 10)
		if err := data.Commit(r.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Commit: %v", err)
		}
		s.store.up()
		out.WriteHeader(418)
		return nil
	})
	mustAnswer(t, w, 418)
	v.mustHave("apple=1 pear=1")
}

// TestJoinIsRepeated: whatever step of a sign-in fails, and whatever reply is lost, the cart is
// joined once.
func TestJoinIsRepeated(t *testing.T) {
	errLost := fmt.Errorf("%w: the reply is lost", driver.ErrUnknown)
	for _, noRecord := range []bool{false, true} {
		for _, call := range []string{"load", "create", "apply", "join", "lost create", "lost join", "none"} {
			s := newSite(t, shop())
			s.store.noRecord = noRecord
			v := s.visitor()
			v.add("apple", 2)
			failed := false
			v.mustDo(func(ctx context.Context, ses *session.Session) {
				fail := func(c string) error {
					if c == call || "lost "+c == call {
						failed = true
						return errLost
					}
					return nil
				}
				if strings.HasPrefix(call, "lost") {
					s.store.after = fail
				} else {
					s.store.set(fail)
				}
				if err := ses.SignIn(ctx, session.Login{User: "ada"}); err != nil {
					t.Errorf("%s: SignIn: %v", call, err)
				}
				s.store.up()
				s.store.after = nil
			})
			if !failed && call != "apply" && call != "none" {
				t.Errorf("%s: no such call was made", call)
			}
			v.mustHave("apple=2")
			v.tab().mustHave("apple=2")
		}
	}
}

// TestChangeAfterALostCreation: the reply of the creation was lost. A later change of the request
// is not taken for its repetition.
func TestChangeAfterALostCreation(t *testing.T) {
	s := newSite(t, shop())
	v := s.mustSignIn("ada")
	v.mustDo(func(ctx context.Context, ses *session.Session) {
		data, err := ses.UserData(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s.store.after = func(call string) error {
			if call == "create" {
				return fmt.Errorf("%w: the reply is lost", driver.ErrUnknown)
			}
			return nil
		}
		cart.Add(data, "apple", 2)
		if err := data.Commit(ctx); !errors.Is(err, session.ErrUnknownOutcome) {
			t.Fatalf("Commit: %v, want ErrUnknownOutcome", err)
		}
		s.store.after = nil
		data.Discard()
		cart.Add(data, "pear", 5)
		if err := data.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		mustEqual(t, "what the request sees", contents(data), "apple=2 pear=5")
	})
	v.mustHave("apple=2 pear=5")
}

// TestSealedFieldsJoin: values are sealed again for the user data, and a dump shows none of them.
func TestSealedFieldsJoin(t *testing.T) {
	cfg := shop()
	cfg.Keys, cfg.UserKey, cfg.Seal = [][]byte{key(1)}, key(2), true
	s := newSite(t, cfg)
	v := s.visitor()
	v.inData(func(_ context.Context, _, data *session.Session) {
		gifts.Set(data, "book", gift{For: "Bob", Price: 3})
		theme.Set(data, "dark")
		cart.Add(data, "apple", 2)
	})
	v.do(signIn("ada"))
	v.inData(func(ctx context.Context, _, data *session.Session) {
		got, _ := gifts.Get(data, "book")
		mustEqual(t, "the gift", got, gift{For: "Bob", Price: 3})
		mustEqual(t, "the theme", theme.Get(data), "dark")
		if _, err := theme.Update(ctx, data, func(old string) (string, error) { return old + "er", nil }); err != nil {
			t.Error(err)
		}
		mustEqual(t, "the cart", contents(data), "apple=2")
	})
	data, err := s.m.UserData(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "the theme for a worker", theme.Get(data), "darker")
	owner := ownerOf(t, s, "ada")
	r, _, err := s.store.Store.Load(t.Context(), driver.UserDataID(owner))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Fields {
		if strings.Contains(string(f.Value), "Bob") || strings.Contains(string(f.Value), "dark") {
			t.Errorf("%s is stored in clear: %s", f.Key, f.Value)
		}
	}
	mustEqual(t, "fields in the store", len(r.Fields), 3)
	// Without the key, it is an error and not an empty cart.
	cfg.Keys = [][]byte{key(3)}
	if _, err := s.withConfig(cfg).m.UserData(t.Context(), "ada"); !errors.Is(err, session.ErrSealed) {
		t.Errorf("without the key: %v, want ErrSealed", err)
	}
	// A user can be deleted without the key all the same.
	if _, err := s.withConfig(cfg).m.DeleteUser(t.Context(), "ada"); err != nil {
		t.Errorf("DeleteUser without the key: %v", err)
	}
	if r, _, err := s.store.Store.Load(t.Context(), driver.UserDataID(owner)); err != nil || len(r.Fields) != 0 {
		t.Errorf("after DeleteUser the data is %v, error %v, want no fields", r, err)
	}
}

// ownerOf returns the owner of a user who is signed in.
func ownerOf(t *testing.T, s *site, user string) driver.Hash {
	t.Helper()
	list, err := listAll(t.Context(), s.m, user)
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	id, err := driver.ParseID(list[0].Handle)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := s.store.Store.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r.Principal.Owner
}

// TestJoinThatDoesNotFit leaves the fields in the session and the data as it was, until there is
// room. 64 KiB are the most.
func TestJoinThatDoesNotFit(t *testing.T) {
	for name, test := range map[string]struct {
		known, unknown func(data *session.Session)
		want           error
		clear          func(data *session.Session)
	}{
		"64 KiB": {
			func(data *session.Session) { gifts.Set(data, "a", gift{For: strings.Repeat("x", 65_000)}) },
			func(data *session.Session) { gifts.Set(data, "b", gift{For: strings.Repeat("x", 1000)}) },
			session.ErrTooLarge, gifts.Clear,
		},
		"1,024 entries": {
			func(data *session.Session) {
				for i := range 1000 {
					cart.Add(data, fmt.Sprint("known", i), 1)
				}
			},
			func(data *session.Session) {
				for i := range 100 {
					cart.Add(data, fmt.Sprint("unknown", i), 1)
				}
			}, session.ErrTooLarge, cart.Clear,
		},
		"overflow": {
			func(data *session.Session) { cart.Add(data, "apple", math.MaxInt64) },
			func(data *session.Session) { cart.Add(data, "apple", 1); cart.Add(data, "pear", 1) }, session.ErrInvalid, cart.Clear,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, shop())
			known, v := s.mustSignIn("ada"), s.visitor()
			known.inData(func(_ context.Context, _, data *session.Session) { test.known(data) })
			before := ""
			v.inData(func(_ context.Context, _, data *session.Session) { test.unknown(data) })
			v.inData(func(_ context.Context, _, data *session.Session) { before = contents(data) })
			v.do(signIn("ada"))
			if log := s.log.String(); !strings.Contains(log, "did not join") {
				t.Errorf("the log does not say it: %s", log)
			}
			v.mustDo(func(ctx context.Context, ses *session.Session) {
				if data, err := ses.UserData(ctx); data != nil || !errors.Is(err, test.want) {
					t.Errorf("UserData: %v, want %v", err, test.want)
				}
				mustEqual(t, "the session's cart", contents(ses), before)
			})
			known.inData(func(_ context.Context, _, data *session.Session) { test.clear(data) })
			v.mustHave(before)
		})
	}
}
